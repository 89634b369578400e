"""A search whose trials train as one batched model, killed at its n-th write and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Server, kill_and_resume, whole
from job import Job

SPARSE = 8
"""One in so many writes is killed in CI; every one with `-m long`."""


def kill_at_each(server: Server, folder: Path, mode: str, first: int, step: int) -> None:
    job = Job(str(folder / "s"), mode=mode, enqueue=None)
    reference = whole(server, job)
    ways = {value for _, key, value in reference.table()["attributes"] if key == "trained"}
    assert ways == {'"fused"'}
    for kill_at in range(first, len(reference.outcome["points"]) + 1, step):
        kill_and_resume(server, job, reference, kill_at)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fused-tpe", "fused-grid"])
def test_groups_killed_at_some_writes(server: Server, folder: Path, mode: str) -> None:
    kill_at_each(server, folder, mode, 3, SPARSE)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["fused-tpe", "fused-grid"])
def test_groups_killed_at_every_write(server: Server, folder: Path, mode: str) -> None:
    kill_at_each(server, folder, mode, 1, 1)
