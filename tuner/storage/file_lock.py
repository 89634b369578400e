"""A lock on a file, which the system drops with the process, however that ends."""

from __future__ import annotations

import os
import time
import weakref
from pathlib import Path

from tuner.errors import StorageError
from tuner.storage.owner import Owner

PATIENCE_SECONDS = 1.0
"""How long a held lock is tried again: one who only looks holds it for a moment, as a killed owner's child may."""


class FileLock:
    """The exclusive lock on the file `path`; one process at a time has it, and only in that process does it count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        _locks.add(self)

    @property
    def held(self) -> bool:
        """Whether this process has the lock."""
        return self._descriptor is not None

    def acquire(self, owner: Owner, study: str) -> None:
        """Take the lock and write `owner` into the file; `StorageError`, with `study`, while another has it."""
        assert not self.held
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._wait(study)
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, owner.to_json().encode())
        except BaseException:
            self.release()
            raise

    def _wait(self, study: str) -> None:
        assert self._descriptor is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _try_lock(self._descriptor, exclusive=True):
            if time.monotonic() > deadline:
                raise StorageError(
                    f"{study}: another process ({_written(self.path) or 'unknown'}) trains this study; "
                    "wait for it, or give another --study"
                )
            time.sleep(0.02)

    def release(self) -> None:
        """Give the lock back, if this process has it; the file stays, for deleting it would let two have it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forget_inherited_locks() -> None:
    """A forked child shares its parent's locks until it closes the files: it must not outlive the parent with them."""
    for lock in list(_locks):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited_locks)


def is_owned(path: Path) -> bool:
    """Whether a process has the lock on the file `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, exclusive=False)
    finally:
        os.close(descriptor)


def owner(path: Path) -> Owner | None:
    """The process that has the lock on the file `path`; None where there is none, or it has not said its name."""
    return _written(path) if is_owned(path) else None


def _written(path: Path) -> Owner | None:
    return Owner.from_json(path.read_text())


def _try_lock(descriptor: int, *, exclusive: bool) -> bool:
    """Lock the open file without waiting; those who only look share it, so that none takes another for the owner."""
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # what is locked there cannot be read, so lock behind the text
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
