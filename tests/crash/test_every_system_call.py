"""A search killed at its n-th system call that changes a file, halfway through a write, and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import kill_and_resume, serving, whole
from job import Job
from system_calls import build

SLICES = 8
"""The calls are shared out among so many tests, which may run side by side."""


def kill_at_each(folder: Path, first: int, step: int) -> None:
    """Kill a search at the system calls `first`, `first + step`, ... until it completes."""
    with serving(preload=build(folder)) as server:
        job = Job(str(folder / "s"), system_calls=True)
        reference = whole(server, job)
        for kill_at in range(first, len(reference.outcome["points"]) + 1, step):
            kill_and_resume(server, job, reference, kill_at)


@pytest.mark.slow
def test_killed_at_some_system_calls(folder: Path) -> None:
    kill_at_each(folder, first=42, step=41)


@pytest.mark.long
@pytest.mark.parametrize("part", range(SLICES))
def test_killed_at_every_system_call(folder: Path, part: int) -> None:
    kill_at_each(folder, 1 + part, SLICES)
