"""What can be done to a child before its search begins."""

from __future__ import annotations

import ctypes
import errno
import functools
import itertools
import os
import signal
import sqlite3
import time
from typing import Any

from tuner.storage import connect
from tuner.training.plain import PlainRun

DAC_OVERRIDE = 1 << 1
"""The capability by which root writes what it may not."""


def small_database(pages: int) -> None:
    """Let the database grow to `pages` pages and no further: SQLite then says that the disk is full."""
    plain = sqlite3.connect

    @functools.wraps(plain)
    def limited(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = plain(*arguments, **options)
        sqlite3.Connection.execute(connection, f"PRAGMA max_page_count={pages}")
        return connection

    for module in (sqlite3, sqlite3.dbapi2):
        module.connect = limited  # type: ignore[attr-defined]


def full_disk(at: int) -> None:
    """Have the disk be full from the `at`-th file on that is synced to it."""
    plain, files = os.fsync, itertools.count(1)

    def full(descriptor: int) -> None:
        if next(files) >= at:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(descriptor)

    os.fsync = full


def obey_permissions() -> None:
    """Obey the permissions of files as everybody but root does."""
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable of capabilities 0 to 31, then of the others
    if libc.capget(header, sets) == 0:
        sets[0] &= ~DAC_OVERRIDE
        libc.capset(header, sets)


def clock_set_back(seconds: float) -> None:
    """Set the clock back."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() - seconds
    time.time_ns = lambda: now_ns() - int(seconds * 1e9)


def impatient() -> None:
    """Wait no time worth mentioning for a database that another process has locked."""
    connect.BUSY_TIMEOUT_SECONDS = 0.2  # type: ignore[assignment]


def stopped(after: int) -> None:
    """Stand still, as by SIGSTOP, after so many epochs, until SIGCONT; and wait for no lock."""
    impatient()
    plain, epochs = PlainRun.epoch, itertools.count(1)

    def epoch(run: PlainRun) -> Any:
        records = plain(run)
        if next(epochs) == after:
            os.kill(os.getpid(), signal.SIGSTOP)
        return records

    PlainRun.epoch = epoch  # type: ignore[method-assign]
