"""One owner of a study (contract C8): who may take it, from whom, and when; what becomes of the one that lost it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tuner.errors import StorageError
from tuner.storage import lease as leasing
from tuner.storage.file_lock import is_owned
from tuner.storage.heartbeat import Heartbeat
from tuner.storage.lease import LEASE_SECONDS, Clock, Lease
from tuner.storage.owner import Owner

ELSEWHERE = Owner(host="elsewhere", boot="another start", pid=77, started="2026-01-02 03:04:05+00:00")
NOW = 1_000_000.0


def machine(host: str, boot: str) -> Owner:
    """This process, as if it ran there."""
    return replace(Owner.here(), host=host, boot=boot)


OWN = """
import os, sys
from pathlib import Path
import sqlalchemy as sa
from tuner.storage.lease import Lease

folder = Path(sys.argv[1])
engine = sa.create_engine(f"sqlite:///{folder / 's.db'}")
with Lease(folder / ".s.lock", "s") as lease:
    lease.claim(engine)
    print("owned", flush=True)
    for command in sys.stdin:
        if command == "write\\n":
            try:
                with engine.begin() as connection:
                    connection.exec_driver_sql("INSERT INTO notes VALUES ('written')")
                    lease.renew(connection)
                print("wrote", flush=True)
            except Exception as error:
                print(f"{type(error).__name__}: {error}", flush=True)
        if command == "fork\\n":
            child = os.fork()
            if child == 0:
                os.read(int(sys.argv[2]), 1)
                os._exit(0)
            print(child, flush=True)
        if command == "fork and leave\\n":
            child = os.fork()
            if child == 0:
                break
            os.waitpid(child, 0)
            print("left", flush=True)
        if command == "abandon\\n":
            lease.release = lambda: None
            break
"""


class Process:
    """An owner of the study in `folder`, in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, **options: Any) -> None:
        command = [sys.executable, "-c", OWN, str(folder), *arguments]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
        self.pid = self.popen.pid
        assert self.answer() == "owned"

    def ask(self, command: str) -> str:
        self.say(command)
        return self.answer()

    def say(self, command: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{command}\n")
        self.popen.stdin.flush()

    def answer(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().rstrip("\n")

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


@contextmanager
def owner_in(folder: Path, *arguments: str, **options: Any) -> Iterator[Process]:
    process = Process(folder, *arguments, **options)
    try:
        yield process
    finally:
        process.kill()
        process.popen.stdin.close()
        process.popen.stdout.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a database that has a table to write to."""
    with closing(sqlite3.connect(tmp_path / "s.db")) as database:
        database.execute("CREATE TABLE notes (text TEXT)")
    return tmp_path


@pytest.fixture
def engine(folder: Path) -> Iterator[sa.Engine]:
    made = sa.create_engine(f"sqlite:///{folder / 's.db'}")
    yield made
    made.dispose()


def no_wait(seconds: float) -> None:
    pytest.fail("waited")


def lease_at(folder: Path, seconds: float, owner: Owner = ELSEWHERE, pause: Callable[[float], None] = no_wait) -> Lease:
    """A lease whose clock stands at NOW and some seconds, with a lock file that only its machine sees."""
    return Lease(folder / f".s.lock.{owner.host}", "s", owner, Clock(lambda: NOW + seconds, pause))


def here(folder: Path) -> Lease:
    return Lease(folder / ".s.lock", "s", clock=Clock(pause=no_wait))


def rows(folder: Path) -> list[Any]:
    with closing(sqlite3.connect(folder / "s.db")) as database:
        return database.execute("SELECT host, pid FROM tuner_leases").fetchall()


def beats(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "s.db")) as database:
        return int(database.execute("SELECT beats FROM tuner_leases").fetchone()[0])


def notes(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "s.db")) as database:
        return int(database.execute("SELECT COUNT(*) FROM notes").fetchone()[0])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_second_process_is_refused_and_the_first_goes_on(folder: Path) -> None:
    with owner_in(folder) as first:
        with pytest.raises(StorageError) as refused, here(folder):
            pytest.fail("two owners")
        for word in ("s: ", f"pid {first.pid} on {Owner.here().host}", "since 20", "wait for it", "--study"):
            assert word in str(refused.value)
        assert first.ask("write") == "wrote"
        assert notes(folder) == 1


def test_what_a_killed_process_leaves_is_taken_at_once(folder: Path, engine: sa.Engine) -> None:
    with owner_in(folder) as first:
        first.kill()
    assert rows(folder) == [(Owner.here().host, first.pid)]
    said: list[str] = []
    with here(folder) as second:
        second.claim(engine, said.append)
        assert rows(folder) == [(Owner.here().host, os.getpid())]
    assert said == []
    assert rows(folder) == []


@pytest.mark.parametrize("shift", [-86_400, 86_400], ids=["set back", "set forward"])
def test_no_clock_decides_on_one_machine(folder: Path, engine: sa.Engine, shift: float) -> None:
    gone = replace(Owner.here(), pid=77)
    with sqlite3.connect(folder / "s.db") as database:
        leave(database, gone, NOW)
    database.close()
    with lease_at(folder, shift, Owner.here()) as second:
        second.claim(engine)
        assert rows(folder) == [(Owner.here().host, os.getpid())]


def leave(database: sqlite3.Connection, owner: Owner, heartbeat: float) -> None:
    """The row that a dead process left."""
    database.execute(str(sa.schema.CreateTable(leasing.leases, if_not_exists=True)))
    row = ("s", "token", owner.host, owner.boot, owner.pid, owner.started, heartbeat, 5)
    database.execute("INSERT INTO tuner_leases VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


@pytest.mark.parametrize(
    ("owner", "same"),
    [
        (machine("a", "1"), True),
        (machine("a", "2"), True),
        (machine("container", "1"), True),
        (machine("b", "2"), False),
        (machine("b", ""), False),
    ],
    ids=["itself", "restarted", "a container of it", "another", "another without a boot id"],
)
def test_what_counts_as_one_machine(folder: Path, engine: sa.Engine, owner: Owner, same: bool) -> None:
    with sqlite3.connect(folder / "s.db") as database:
        leave(database, owner, NOW)
    database.close()
    with lease_at(folder, 1, machine("a", "1" if owner.boot else "")) as second:
        if same:
            second.claim(engine)
        else:
            with pytest.raises(StorageError, match="on b"):
                second.claim(engine)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (0, "0 seconds ago.*taken over in 60 seconds"),
        (12.4, "12 seconds ago.*taken over in 48 seconds"),
        (59.9, "60 seconds ago.*taken over in 1 seconds"),
        (-30, "0 seconds ago.*taken over in 90 seconds"),
    ],
)
def test_an_owner_elsewhere_is_refused_while_its_lease_lasts(
    folder: Path, engine: sa.Engine, age: float, words: str
) -> None:
    with sqlite3.connect(folder / "s.db") as database:
        leave(database, ELSEWHERE, NOW)
    database.close()
    with (
        pytest.raises(StorageError, match=rf"^s: .*pid 77 on elsewhere, since 2026-01-02 03:04:05.*{words}.*--study"),
        lease_at(folder, age, Owner.here()) as second,
    ):
        second.claim(engine)
    assert rows(folder) == [("elsewhere", 77)]
    assert not is_owned(folder / f".s.lock.{Owner.here().host}")


@pytest.mark.parametrize(("age", "ago"), [(LEASE_SECONDS, "60 seconds ago"), (90_061, "1 day, 1:01:01 ago")])
def test_an_owner_elsewhere_that_fell_silent_loses_the_study(
    folder: Path, engine: sa.Engine, age: float, ago: str
) -> None:
    with sqlite3.connect(folder / "s.db") as database:
        leave(database, ELSEWHERE, NOW)
    database.close()
    said: list[str] = []
    with lease_at(folder, age, Owner.here()) as second:
        second.claim(engine, said.append)
        assert rows(folder) == [(Owner.here().host, os.getpid())]
    assert [ELSEWHERE.host in said[0], ago in said[0], len(said)] == [True, True, 1]


def test_one_that_stood_still_while_another_took_over_writes_nothing_more(folder: Path, engine: sa.Engine) -> None:
    with owner_in(folder) as first:
        assert first.ask("write") == "wrote"
        os.kill(first.pid, signal.SIGSTOP)
        later = Clock(lambda: time.time() + LEASE_SECONDS + 1, no_wait)
        with Lease(folder / ".elsewhere", "s", ELSEWHERE, later) as second:
            second.claim(engine)
            os.kill(first.pid, signal.SIGCONT)
            answer = first.ask("write")
            assert answer.startswith("StorageError: s: another process (pid 77 on elsewhere")
            assert "took this study over" in answer
            assert notes(folder) == 1
            first.popen.stdin.close()
            assert first.popen.wait(30) == 0
            assert rows(folder) == [("elsewhere", 77)]
            with engine.begin() as connection:
                second.renew(connection)


def test_a_future_heartbeat_of_a_dead_owner_is_watched_and_then_taken(folder: Path, engine: sa.Engine) -> None:
    with sqlite3.connect(folder / "s.db") as database:
        leave(database, ELSEWHERE, NOW + 86_400)
    database.close()
    waited: list[float] = []
    said: list[str] = []
    with lease_at(folder, 0, Owner.here(), waited.append) as second:
        second.claim(engine, said.append)
        assert rows(folder) == [(Owner.here().host, os.getpid())]
    assert sum(waited) == LEASE_SECONDS
    assert max(waited) <= 1
    assert ["clock" in said[0], "taken over" in said[1]] == [True, True]


def test_a_future_heartbeat_of_a_live_owner_is_refused_at_its_next_beat(folder: Path, engine: sa.Engine) -> None:
    with lease_at(folder, 86_400) as first:
        first.claim(engine)

        def beat(seconds: float) -> None:
            with engine.begin() as connection:
                first.renew(connection)

        with (
            pytest.raises(StorageError, match="pid 77 on elsewhere"),
            lease_at(folder, 0, Owner.here(), beat) as second,
        ):
            second.claim(engine)
        assert rows(folder) == [("elsewhere", 77)]


def test_an_owner_that_ends_while_it_is_watched_leaves_the_study(folder: Path, engine: sa.Engine) -> None:
    with lease_at(folder, 86_400) as first:
        first.claim(engine)
        with lease_at(folder, 0, Owner.here(), lambda seconds: first.release()) as second:
            second.claim(engine)
            assert rows(folder) == [(Owner.here().host, os.getpid())]


@pytest.mark.parametrize("left", [True, False], ids=["a silent owner's", "nobody's"])
def test_of_two_that_take_at_the_same_moment_one_wins(folder: Path, engine: sa.Engine, left: bool) -> None:
    if left:
        with sqlite3.connect(folder / "s.db") as database:
            leave(database, ELSEWHERE, NOW - LEASE_SECONDS)
        database.close()
    with lease_at(folder, 0, replace(ELSEWHERE, host="third", pid=3)) as winner:
        turns = iter([lambda: winner.claim(engine)])

        def now() -> float:
            next(turns, lambda: None)()
            return NOW

        loser = Lease(folder / ".s.lock", "s", clock=Clock(now, no_wait))
        with pytest.raises(StorageError, match=r"same moment.*try again"), loser:
            loser.claim(engine)
        assert rows(folder) == [("third", 3)]


def test_a_silent_owner_that_beats_at_the_last_moment_keeps_the_study(folder: Path, engine: sa.Engine) -> None:
    with lease_at(folder, -LEASE_SECONDS) as first:
        first.claim(engine)

        def now() -> float:
            with engine.begin() as connection:
                first.renew(connection)
            return NOW

        with pytest.raises(StorageError, match="same moment"), Lease(folder / ".s.lock", "s", None, Clock(now)) as late:
            late.claim(engine)
        with engine.begin() as connection:
            first.renew(connection)


def test_a_deleted_lock_file_ends_the_first_owner_not_the_study(folder: Path, engine: sa.Engine) -> None:
    with owner_in(folder) as first:
        (folder / ".s.lock").unlink()
        with here(folder) as second:
            second.claim(engine)
            assert f"pid {os.getpid()}" in first.ask("write")
            assert notes(folder) == 0


def test_a_copied_database_is_nobodys(folder: Path, tmp_path: Path) -> None:
    with owner_in(folder) as first:
        copy = tmp_path / "copy"
        copy.mkdir()
        shutil.copy(folder / "s.db", copy)
        assert rows(copy) == [(Owner.here().host, first.pid)]
        engine = sa.create_engine(f"sqlite:///{copy / 's.db'}")
        with here(copy) as second:
            second.claim(engine)
            assert first.ask("write") == "wrote"
        engine.dispose()


def test_on_a_database_server_a_free_lock_file_proves_nothing(folder: Path, engine: sa.Engine) -> None:
    """Its clients may each have a folder of their own."""
    engine.dialect.name = "server"
    with lease_at(folder, 0, machine("a", "1")) as first:
        first.claim(engine)
        second = Lease(folder / "another folder" / ".s.lock", "s", first.owner, Clock(lambda: NOW + 1, no_wait))
        with pytest.raises(StorageError, match=r"pid.* on a"), second:
            second.claim(engine)
        with engine.begin() as connection:
            first.renew(connection)


@pytest.mark.parametrize("error", [None, KeyError], ids=["in order", "by an error"])
def test_an_end_leaves_neither_row_nor_lock_nor_thread(
    folder: Path, engine: sa.Engine, error: type[Exception] | None
) -> None:
    threads = threading.active_count()
    try:
        with here(folder) as lease:
            lease.claim(engine)
            assert threading.active_count() == threads + 1
            if error:
                raise error
    except KeyError:
        pass
    assert threading.active_count() == threads
    assert rows(folder) == []
    assert not is_owned(folder / ".s.lock")
    with here(folder) as again:
        again.claim(engine)
        assert len(rows(folder)) == 1


def test_an_end_before_the_claim_gives_the_lock_back(folder: Path) -> None:
    with pytest.raises(KeyError), here(folder):
        raise KeyError
    assert not is_owned(folder / ".s.lock")


def test_a_database_that_cannot_be_written_at_the_end_hides_no_error(folder: Path, engine: sa.Engine) -> None:
    other = sqlite3.connect(folder / "s.db", isolation_level=None)

    def work() -> None:
        with here(folder) as lease:
            lease.claim(engine)
            other.execute("BEGIN EXCLUSIVE")
            raise KeyError

    before = time.monotonic()
    with pytest.raises(KeyError):
        work()
    assert time.monotonic() - before < 15
    other.execute("ROLLBACK")
    other.close()
    assert len(rows(folder)) == 1
    with here(folder) as again:
        again.claim(engine)


def test_studies_in_one_database_are_leased_apart(folder: Path, engine: sa.Engine) -> None:
    with Lease(folder / ".s.lock", "s") as first, Lease(folder / ".t.lock", "t", ELSEWHERE) as second:
        first.claim(engine)
        second.claim(engine)
        assert len(rows(folder)) == 2
        with engine.begin() as connection:
            first.renew(connection)
            second.renew(connection)


def test_the_heart_beats_by_itself_past_a_busy_database(
    folder: Path, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "LEASE_SECONDS", 0.04)
    with here(folder) as lease:
        lease.claim(engine)
        until(lambda: beats(folder) >= 2)
        other = sqlite3.connect(folder / "s.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        time.sleep(1.2)  # longer than a beat waits for the database
        before = beats(folder)
        other.execute("ROLLBACK")
        other.close()
        until(lambda: beats(folder) > before)
        lease.check()


def test_a_heartbeat_finds_the_lease_lost(folder: Path, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "LEASE_SECONDS", 0.04)
    with here(folder) as lease:
        lease.claim(engine)
        with sqlite3.connect(folder / "s.db", timeout=30) as other:
            other.execute("UPDATE tuner_leases SET token = 'theirs', host = 'elsewhere', pid = 77")
        other.close()

        def lost() -> bool:
            try:
                lease.check()
            except StorageError as error:
                return "pid 77 on elsewhere" in str(error) and "took this study over" in str(error)
            return False

        until(lost)
    assert rows(folder) == [("elsewhere", 77)]


def test_a_beat_that_hangs_holds_the_end_up_for_a_moment_only() -> None:
    began, go = threading.Event(), threading.Event()

    def beat() -> bool:
        began.set()
        return go.wait(60)

    heart = Heartbeat(beat, 0.0)
    assert began.wait(30)
    before = time.monotonic()
    heart.stop()
    assert time.monotonic() - before < 30
    go.set()


def test_the_heart_keeps_no_process_alive(folder: Path) -> None:
    with owner_in(folder) as process:
        process.say("abandon")
        assert process.popen.wait(30) == 0
        assert not is_owned(folder / ".s.lock")


def test_a_forked_child_that_outlives_its_killed_parent_holds_nothing(folder: Path, engine: sa.Engine) -> None:
    """As a DataLoader's workers do for a while."""
    waiting, stop = os.pipe()
    try:
        with owner_in(folder, str(waiting), pass_fds=[waiting]) as first:
            child = int(first.ask("fork"))
            first.kill()
            os.kill(child, 0)
            until(lambda: not is_owned(folder / ".s.lock"))
            with here(folder) as second:
                second.claim(engine)
            os.kill(child, 0)
    finally:
        os.write(stop, b"!")
        os.close(waiting)
        os.close(stop)


def test_a_forked_child_that_ends_gives_nothing_back(folder: Path) -> None:
    with owner_in(folder) as first:
        assert first.ask("fork and leave") == "left"
        assert rows(folder) == [(Owner.here().host, first.pid)]
        assert is_owned(folder / ".s.lock")
        assert first.ask("write") == "wrote"


def test_a_working_directory_that_changes_makes_no_new_database(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(leasing, "LEASE_SECONDS", 0.04)
    relative = sa.create_engine("sqlite:///s.db")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with here(folder) as lease:
        lease.claim(relative)
        monkeypatch.chdir(elsewhere)
        before = beats(folder)
        until(lambda: beats(folder) > before)
    relative.dispose()
    assert list(elsewhere.iterdir()) == []
    assert rows(folder) == []
