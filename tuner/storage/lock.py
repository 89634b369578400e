"""One owner: a file lock that the system drops with the process, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.errors import StorageError


@contextmanager
def owned(path: Path, name: str) -> Iterator[None]:
    """Own the study `name`, whose lock file is `path`; `StorageError` while another process does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            _lock(file.fileno())
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise StorageError(
                f"{name}: another process ({owner}) trains this study; wait for it, or give another --study"
            ) from None
        file.truncate(0)
        file.write(f"pid {os.getpid()}\n")
        file.flush()
        yield


def _lock(descriptor: int) -> None:
    """Take an exclusive lock or raise `OSError`."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_owned(path: Path) -> bool:
    """Whether a process owns the study whose lock file is `path`."""
    if not path.exists():
        return False
    with path.open("a+") as file:
        try:
            _lock(file.fileno())
        except OSError:
            return True
    return False
