"""Databases that cannot be used as they are: one message, nothing touched, and all goes on once they can."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from halfway import Halfway
from harness import Server, resumed
from job import Job

pytestmark = pytest.mark.slow


def fails_with(half: Halfway, words: str, harm: str = "") -> None:
    """The search ends with a `StorageError` that says these words of the database."""
    assert half.server.run(replace(half.job, harm=harm)) == 1, half.trained.said
    assert half.trained.outcome["error"] == "StorageError"
    assert half.trained.outcome["message"].startswith(f"{half.trained.database}: ")
    assert re.search(words, half.trained.outcome["message"])


def goes_on(half: Halfway) -> None:
    resumed(half.server, half.job, half.reference, "once it can be used")


@contextmanager
def read_only(*paths: Path) -> Iterator[None]:
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    yield
    for path in paths:
        path.chmod(path.stat().st_mode | 0o200)


def test_a_folder_that_is_read_only(half: Halfway) -> None:
    studies = half.trained.database.parent
    with read_only(studies, *studies.iterdir()):
        fails_with(half, "read-only|permissions", harm="obey_permissions")
    goes_on(half)


def test_a_new_study_in_a_folder_that_is_read_only(server: Server, folder: Path) -> None:
    studies = folder / "new" / "studies"
    studies.mkdir(parents=True)
    with read_only(studies):
        assert server.run(Job(str(folder / "new"), harm="obey_permissions")) == 1
    assert not list(studies.iterdir())


def fold(database: Path) -> None:
    """Bring what lies in the write-ahead log into the database itself."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("damage", ["truncated", "garbage amid", "garbage"])
def test_a_damaged_database_is_left_alone(half: Halfway, damage: str) -> None:
    fold(half.trained.database)
    before = half.trained.database.read_bytes()
    middle = len(before) // 2
    noise = os.urandom(20_000)
    damaged = {
        "truncated": before[:middle],
        "garbage amid": before[: middle - 10_000] + noise + before[middle + 10_000 :],
        "garbage": noise,
    }[damage]
    half.trained.database.write_bytes(damaged)
    fails_with(half, "not a SQLite database" if damage == "garbage" else "damaged")
    assert half.trained.database.read_bytes() == damaged
    half.trained.database.write_bytes(before)
    goes_on(half)


def test_a_database_locked_by_another_process(half: Halfway) -> None:
    with closing(sqlite3.connect(half.trained.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        fails_with(half, "the database is locked by another process", harm="impatient")
    goes_on(half)
