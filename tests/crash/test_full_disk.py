"""A disk that is full: one message, and the same command goes on once there is room."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness import Server, Trained, resumed
from job import Job

pytestmark = pytest.mark.slow


def fill_and_go_on(server: Server, reference: Trained, job: Job) -> None:
    """Run a search into a full disk, and again when there is room."""
    trained = Trained(Path(job.folder))
    trained.folder.mkdir()
    assert server.run(job) == 1, trained.said
    assert trained.outcome["error"] == "StorageError"
    message = "the disk is full; make room and run the same command again"
    assert trained.outcome["message"] == f"{trained.database}: {message}"
    trained.check_integrity()
    assert not list((trained.folder / "studies").rglob("*.part"))
    resumed(server, replace(job, harm=""), reference, f"after a full disk, {dict(job.harm_options)}")


def job(folder: Path, harm: str, **options: Any) -> Job:
    return Job(str(folder / "full"), harm=harm, harm_options=options)


@pytest.mark.parametrize("part", [0.1, 0.7, 0.9])
def test_a_database_that_cannot_grow(server: Server, folder: Path, reference: Trained, part: float) -> None:
    with closing(sqlite3.connect(reference.database)) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    fill_and_go_on(server, reference, job(folder, "small_database", pages=int(part * pages)))


@pytest.mark.parametrize("at", [1, 7])
def test_a_file_that_cannot_be_written(server: Server, folder: Path, reference: Trained, at: int) -> None:
    fill_and_go_on(server, reference, job(folder, "full_disk", at=at))
