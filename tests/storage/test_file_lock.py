"""The lock file of a study's owner (contract C8)."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from tuner.errors import StorageError
from tuner.storage import file_lock
from tuner.storage.file_lock import FileLock, is_owned, owner
from tuner.storage.owner import Owner

HOLD = """
import sys
from pathlib import Path
from tuner.storage.file_lock import FileLock
from tuner.storage.owner import Owner
lock = FileLock(Path(sys.argv[1]))
lock.acquire(Owner.here(), "digits-full")
print("held", flush=True)
sys.stdin.read()
"""


def test_one_owner_until_it_is_gone_even_by_kill(tmp_path):
    path = tmp_path / "studies" / ".digits-full.lock"
    assert not is_owned(path)
    assert owner(path) is None
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        assert is_owned(path)
        assert owner(path).pid == holder.pid
        with pytest.raises(StorageError, match=rf"digits-full.*pid {holder.pid} on .*, since .*--study"):
            FileLock(path).acquire(Owner.here(), "digits-full")
        assert is_owned(path)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert not is_owned(path)
        assert owner(path) is None
        lock = FileLock(path)
        lock.acquire(Owner.here(), "digits-full")
        assert owner(path) == replace(Owner.here(), started=owner(path).started)
        lock.release()
        assert not is_owned(path)
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()


def test_a_refused_lock_is_not_held_and_another_file_is_another_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(file_lock, "PATIENCE_SECONDS", 0)
    first, second, third = (FileLock(tmp_path / name) for name in (".s.lock", ".s.lock", ".t.lock"))
    first.acquire(Owner.here(), "s")
    with pytest.raises(StorageError):
        second.acquire(Owner.here(), "s")
    assert not second.held
    second.release()
    assert is_owned(first.path)
    third.acquire(Owner.here(), "t")
    first.release()
    assert not is_owned(first.path)
    assert is_owned(third.path)
    third.release()


def test_those_who_only_look_are_nobodys_owner(tmp_path):
    """`tuner list` in two terminals, and a search that starts at that moment."""
    lock = FileLock(tmp_path / ".s.lock")
    lock.acquire(Owner.here(), "s")
    lock.release()
    with lock.path.open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not is_owned(lock.path)
        done = threading.Timer(0.1, lambda: fcntl.flock(looking, fcntl.LOCK_UN))
        done.start()
        lock.acquire(Owner.here(), "s")
        done.join()
    lock.release()


@pytest.mark.parametrize("text", ["", "pid 1\n", "{}", "[1]", '{"who": 1}', '{"pid": 1'])
def test_an_owner_that_has_not_said_its_name_is_unknown(tmp_path, monkeypatch, text):
    monkeypatch.setattr(file_lock, "PATIENCE_SECONDS", 0)
    lock = FileLock(tmp_path / ".s.lock")
    lock.acquire(Owner.here(), "s")
    lock.path.write_text(text)
    assert is_owned(lock.path)
    assert owner(lock.path) is None
    with pytest.raises(StorageError, match=r"another process \(unknown\)"):
        FileLock(lock.path).acquire(Owner.here(), "s")
    lock.release()
