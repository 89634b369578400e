"""Others at a study while it is trained: a second conductor, and a process that locks its database."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from harness import Server, Trained, check_equal, resumed
from job import Job

pytestmark = pytest.mark.slow

EPOCHS = 14


class Standing:
    """A search that stands still amid a round."""

    def __init__(self, server: Server, folder: Path, reference: Trained) -> None:
        self.server, self.reference = server, reference
        self.job = Job(str(folder / "standing"))
        self.trained = Trained(Path(self.job.folder))
        self.trained.folder.mkdir()
        self.process = server.start(replace(self.job, harm="stopped", harm_options={"after": EPOCHS}))
        while self.trained.epochs().total() < EPOCHS:
            time.sleep(0.01)

    def go_on(self) -> int:
        """Let it run to its end; gives its exit code."""
        os.kill(self.process, signal.SIGCONT)
        code, self.process = self.server.end_of(self.process), 0
        return code


@pytest.fixture
def standing(server: Server, folder: Path, reference: Trained) -> Iterator[Standing]:
    found = Standing(server, folder, reference)
    yield found
    if found.process:
        os.kill(found.process, signal.SIGKILL)
        server.end_of(found.process)


def test_a_second_conductor_is_refused_and_the_first_goes_on(standing: Standing) -> None:
    assert standing.server.run(standing.job) == 1
    assert standing.trained.outcome["error"] == "StorageError"
    assert f"pid {standing.process}" in standing.trained.outcome["message"]
    assert standing.go_on() == 0, standing.trained.said
    check_equal(standing.trained, standing.reference, "beside a second conductor", most_again=0)


def test_a_database_locked_amid_a_search(standing: Standing) -> None:
    with closing(sqlite3.connect(standing.trained.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert standing.go_on() == 1, standing.trained.said
    assert standing.trained.outcome["error"] == "StorageError"
    assert "the database is locked by another process" in standing.trained.outcome["message"]
    resumed(standing.server, standing.job, standing.reference, "after a lock")
