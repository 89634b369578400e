"""A process killed at its n-th write, without a process: what comes after it is never written."""

from __future__ import annotations

from typing import Any

import sqlalchemy


class Killed(BaseException):
    """The process was killed at this write."""


def _writes(statement: str) -> bool:
    return statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE", "REPLACE"))


def kill_at(engine: sqlalchemy.Engine, write: int) -> None:
    """Let `write` transactions that write through, and raise `Killed` instead of committing the next."""
    left, wrote = iter(range(write)), []

    def execute(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if _writes(statement):
            wrote.append(statement)

    def commit(connection: Any) -> None:
        if wrote:
            wrote.clear()
            if next(left, None) is None:
                raise Killed

    sqlalchemy.event.listen(engine, "before_cursor_execute", execute)
    sqlalchemy.event.listen(engine, "commit", commit)


def kill_at_statement(engine: sqlalchemy.Engine, write: int) -> None:
    """Let `write` statements that write through, and raise `Killed` instead of executing the next."""
    left = iter(range(write))

    def execute(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if _writes(statement) and next(left, None) is None:
            raise Killed

    sqlalchemy.event.listen(engine, "before_cursor_execute", execute)
