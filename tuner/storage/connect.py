"""Opens a study's database, and says in words what is wrong with one that cannot be used."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from sqlalchemy import event, exc

from tuner.errors import StorageError

REVISIONS = ("v3.2.0.a",)
"""Optuna's schema revisions (alembic) whose tables tuner reads and writes itself; others go through Optuna."""

BUSY_TIMEOUT_SECONDS = 30
"""How long a writer waits for another before the database counts as locked."""


def connect(path: Path) -> optuna.storages.RDBStorage:
    """Optuna's storage on the SQLite file `path`, made if missing: WAL, busy timeout, synchronous=FULL.

    What is committed is on the disk, so no power cut unwrites a trial.

    Raises `StorageError` for a file that is damaged, locked, or no database of Optuna's.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_foreign(path)
        storage = _open_storage(path)
        event.listen(storage.engine, "connect", _set_pragmas)
        storage.engine.dispose()
        return storage


def _open_storage(path: Path) -> optuna.storages.RDBStorage:
    """Optuna's storage; while another process makes the same tables, try again, for then they are there."""
    timeout = {"connect_args": {"timeout": BUSY_TIMEOUT_SECONDS}}
    for pause_seconds in (0.05, 0.1, 0.2, 0.4, 0.8):
        try:
            return optuna.storages.RDBStorage(url(path), engine_kwargs=timeout)
        except exc.DBAPIError as error:
            if not re.search("already exists|UNIQUE constraint failed: (alembic_version|version_info)", str(error)):
                raise
            time.sleep(pause_seconds)
    return optuna.storages.RDBStorage(url(path), engine_kwargs=timeout)


def url(path: Path) -> str:
    """The database's URL, as Optuna's own commands take it."""
    return sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string()


def file_uri(path: Path) -> str:
    """The file as SQLite's own URI, to which `?mode=ro` and the like are added."""
    return f"file:{path.absolute().as_posix().replace('%', '%25').replace('?', '%3f').replace('#', '%23')}"


def _set_pragmas(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


ELSEWHERE = "; move it away, or give another --study"


def is_database(path: Path) -> bool:
    """Whether a file is a SQLite database, of whatever program."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\x00"


def refuse_foreign(path: Path, to_read: bool = False) -> None:
    """A file that is there must be a SQLite database, before anything writes to it; with `to_read` nothing will."""
    if path.is_dir():
        raise StorageError(f"{path}: a folder, where a study's database should be")
    if not path.exists():
        return
    if path.stat().st_size and not is_database(path):
        raise StorageError(f"{path}: not a SQLite database{'' if to_read else ELSEWHERE}")
    with closing(_mended(path, to_read)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "studies" not in tables:
        raise StorageError(f"{path}: another program's database{'' if to_read else ELSEWHERE}")


def _mended(path: Path, to_read: bool) -> sqlite3.Connection:
    """A connection for which what a killed process left half done is rolled back, as reading alone would not do."""
    connection = sqlite3.connect(f"{file_uri(path)}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_SECONDS)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if to_read and re.search("readonly|unable to open", str(error)):
            return open_to_read(path)
        raise
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that reads; where the folder cannot be written, a file at rest is read as it is."""
    connection = sqlite3.connect(f"{file_uri(path)}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_SECONDS)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        beside = [path.with_name(f"{path.name}-{kind}") for kind in ("wal", "journal")]
        if any(journal.exists() and journal.stat().st_size for journal in beside):
            raise
        connection = sqlite3.connect(f"{file_uri(path)}?mode=ro&immutable=1", uri=True)
    return connection


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the database's exceptions into a `StorageError` that says what happened and what to do."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (exc.DBAPIError, sqlite3.Error, optuna.exceptions.StorageInternalError, OSError) as error:
        raise StorageError(_explanation(path, error)) from error


def _explanation(path: Path, error: BaseException) -> str:
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    text = " / ".join(str(cause) for cause in causes)
    for pattern, words in (
        ("database is locked", "the database is locked by another process; try again when it is done"),
        ("malformed|not a database", "the database is damaged; restore a copy, or take another study"),
        ("disk is full|No space left", "the disk is full; make room and run the same command again"),
        ("readonly|read-only|Read-only", "the database cannot be written: it or its folder is read-only"),
        ("Permission denied|unable to open", "the database cannot be opened; check the folder's permissions"),
    ):
        if re.search(pattern, text):
            return f"{path}: {words}"
    if isinstance(causes[-1], (exc.SQLAlchemyError, sqlite3.Error)):
        return f"{path}: the database gave an error: {causes[-1]}"
    return f"{path}: {error}"
