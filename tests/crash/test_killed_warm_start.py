"""A study killed while it takes over another one's trials, or later, ends as one that never was."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from harness import Server, Trained, kill_and_resume, killed, resumed, whole
from job import Job

SPARSE = 5
"""The search is killed at one in so many writes."""


def started_from(server: Server, folder: Path, mode: str) -> Job:
    """A short search that begins with what another one of the same task found."""
    earlier = whole(server, Job(str(folder / "earlier"), mode="random-none"))
    return Job(str(folder / "s"), mode=mode, overrides={"trials": 3}, enqueue=None, warm_start=str(earlier.database))


def is_ready(trained: Trained) -> bool:
    """Whether the study's making is complete, read from a copy."""
    if not trained.database.exists():
        return False
    copy = trained.folder / "look"
    shutil.copytree(trained.database.parent, copy)
    with closing(sqlite3.connect(copy / "crash.db")) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        query = "SELECT COUNT(*) FROM study_user_attributes WHERE key = 'ready'"
        found = bool("study_user_attributes" in tables and connection.execute(query).fetchone()[0])
    shutil.rmtree(copy)
    return found


@pytest.mark.slow
def test_killed_at_some_writes(server: Server, folder: Path) -> None:
    job = started_from(server, folder, "tpe-hyperband")
    reference = whole(server, job)
    taken = [row for row in reference.table()["attributes"] if row[1] == "warm_start"]
    assert len(taken) >= 5
    for kill_at in range(2, len(reference.outcome["points"]) + 1, SPARSE):
        kill_and_resume(server, job, reference, kill_at)


@pytest.mark.slow
def test_a_making_that_was_cut_short_leaves_nothing_to_a_study_made_without_it(server: Server, folder: Path) -> None:
    job = started_from(server, folder, "random-none")
    points = whole(server, job).outcome["points"]
    plain = replace(job, warm_start=None)
    reference = whole(server, replace(plain, folder=f"{job.folder}-plain"))
    cut_short = 0
    for kill_at in range(1, len(points), 5):
        again = replace(job, folder=f"{job.folder}-{kill_at}")
        trained = killed(server, again, kill_at)
        if is_ready(trained):
            break
        resumed(server, replace(again, warm_start=None), reference, f"killed at write {kill_at}, {points[kill_at - 1]}")
        cut_short += bool(trained.files())
    assert cut_short > 3
