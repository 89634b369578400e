"""A search over a plain Optuna objective, killed and resumed: a trial cut short reruns as the trial it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Server, kill_and_resume, whole
from job import TASK, Job

OBJECTIVE = f"{TASK.with_name('objective.py')}:objective"


SAMPLERS = ["random", "tpe", "qmc"]


def kill_at_each(server: Server, folder: Path, sampler: str, step: int) -> None:
    """Kill a search over the objective at its writes 1, 1 + step, ... until it completes."""
    overrides = {"sampler": sampler, "pruner": "median", "trials": 12}
    job = Job(str(folder / "s"), OBJECTIVE, "quick", overrides, enqueue=None)
    reference = whole(server, job)
    assert set(reference.states()) == {"COMPLETE", "PRUNED", "FAIL"}
    for kill_at in range(1, len(reference.outcome["points"]) + 1, step):
        kill_and_resume(server, job, reference, kill_at)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_objective_killed_at_some_writes(server: Server, folder: Path, sampler: str) -> None:
    kill_at_each(server, folder, sampler, 40)


@pytest.mark.long
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_objective_killed_at_every_write(server: Server, folder: Path, sampler: str) -> None:
    kill_at_each(server, folder, sampler, 1)
