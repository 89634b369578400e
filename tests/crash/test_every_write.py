"""A search killed at its n-th write and resumed leaves what one never killed leaves, for every n."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Server, Trained, kill_and_resume, whole
from job import Job

SAMPLERS, PRUNERS = ("grid", "random", "tpe", "qmc"), ("none", "median", "hyperband", "asha")
MATRIX = [(sampler, pruner) for sampler in SAMPLERS for pruner in PRUNERS]
EXHAUSTIVE = ("tpe", "median")
SLICES = 8
"""The exhaustive combination is cut into so many tests, which may run side by side."""
SPARSE = 16
"""The other combinations are killed at one in so many writes, each at others, so that each write is somebody's."""


def kill_at_each(server: Server, folder: Path, sampler: str, pruner: str, first: int, step: int) -> None:
    """Kill a combination's search at the writes `first`, `first + step`, ... until it completes."""
    job = Job(str(folder / "s"), mode=f"{sampler}-{pruner}")
    reference = whole(server, job)
    check_all_kinds(reference, pruner)
    for kill_at in range(first, len(reference.outcome["points"]) + 1, step):
        kill_and_resume(server, job, reference, kill_at)


def check_all_kinds(reference: Trained, pruner: str) -> None:
    """The search that is killed must have trials of every kind in it."""
    table = reference.table()
    assert len(reference.states()) >= 12
    assert set(reference.states()) == {"COMPLETE", "PRUNED", "FAIL"}
    assert {"diverged", "infeasible", "duplicate_of"} <= {key for _, key, _ in table["attributes"]}
    reasons = " ".join(value for _, key, value in table["attributes"] if key == "reason")
    assert "RuntimeError: this model has no luck" in reasons
    assert ("pruned by the pruner" in reasons) == (pruner != "none")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(SLICES))
def test_one_combination_killed_at_every_write(server: Server, folder: Path, part: int) -> None:
    kill_at_each(server, folder, *EXHAUSTIVE, 1 + part, SLICES)


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "pruner"), [pair for pair in MATRIX if pair != EXHAUSTIVE])
def test_every_combination_killed_at_some_writes(server: Server, folder: Path, sampler: str, pruner: str) -> None:
    kill_at_each(server, folder, sampler, pruner, 1 + MATRIX.index((sampler, pruner)) * 7 % SPARSE, SPARSE)


@pytest.mark.long
@pytest.mark.parametrize(("sampler", "pruner"), MATRIX)
def test_every_combination_killed_at_every_write(server: Server, folder: Path, sampler: str, pruner: str) -> None:
    kill_at_each(server, folder, sampler, pruner, 1, 1)
