"""The points at which a process can be killed: its writes to SQLite and to files, as Python sees them."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER")
FINAL = ("commit", "rename", "replace")


class Points:
    """Counts this process's writes, and kills it by SIGKILL at the `kill_at`-th (0: never).

    A point lies before every statement that writes, every fsync and every unlink, before and after every commit and
    rename, and in the middle of every file.
    """

    def __init__(self, kill_at: int) -> None:
        self.kill_at, self.passed = kill_at, list[str]()

    def reach(self, what: str) -> None:
        """Come to a point; nothing comes back from the `kill_at`-th."""
        self.passed.append(what)
        if len(self.passed) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with a point before it, and one after what cannot be undone."""

        def watched(*arguments: Any, **options: Any) -> Any:
            self.reach(f"before {name}")
            result = function(*arguments, **options)
            if name in FINAL:
                self.reach(f"after {name}")
            return result

        return watched


def watch(points: Points) -> None:
    """Let every write of this process from now on pass its points."""
    for name in ("fsync", "rename", "replace", "unlink"):
        setattr(os, name, points.around(name, getattr(os, name)))
    _watch_files(points)
    _watch_sqlite(points)


def _watch_files(points: Points) -> None:
    class HalfFirst(io.FileIO):
        def write(self, content: Any) -> int:
            half = super().write(content[: len(content) // 2])
            points.reach("amid a file")
            return half + super().write(content[half:])

    def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return io.BufferedWriter(HalfFirst(file, "wb")) if mode == "wb" else plain(file, mode, *rest, **options)

    plain, io.open = io.open, opened  # what pathlib calls


def _watch_sqlite(points: Points) -> None:
    class Cursor(sqlite3.Cursor):
        def execute(self, statement: str, *rest: Any) -> Any:
            self._reach(statement)
            return super().execute(statement, *rest)

        def executemany(self, statement: str, *rest: Any) -> Any:
            self._reach(statement)
            return super().executemany(statement, *rest)

        def _reach(self, statement: str) -> None:
            if statement.lstrip().upper().startswith(WRITES):
                points.reach(f"before {' '.join(statement.split()[:3])}")

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def commit(self) -> None:
            if self.in_transaction:
                points.around("commit", super().commit)()

    for module in (sqlite3, sqlite3.dbapi2):
        module.connect = partial(module.connect, factory=Connection)  # type: ignore[attr-defined]
