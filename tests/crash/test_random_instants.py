"""A search killed at random instants, each resume killed again."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from harness import KILLED, ROUND, Server, Trained, resumed, whole
from job import Job


def kill_often(server: Server, folder: Path, kills: int, trials: int, longest_seconds: float) -> None:
    """Kill a search of so many trials so often, each time within `longest_seconds` of its start."""
    overrides = {"trials": trials}
    reference = whole(server, Job(str(folder / "whole"), overrides=overrides))
    job = Job(str(folder / "killed"), overrides=overrides)
    trained, instants = Trained(Path(job.folder)), random.Random(0)
    trained.folder.mkdir()
    for kill in range(kills):
        process = server.start(job)
        time.sleep(instants.uniform(0, longest_seconds))
        os.kill(process, signal.SIGKILL)
        assert server.end_of(process) in (0, KILLED), f"resume {kill}: {trained.said}"
        trained.check_integrity()
    resumed(server, job, reference, f"killed {kills} times", most_again=kills * ROUND)


@pytest.mark.slow
def test_a_search_killed_at_a_few_random_instants(server: Server, folder: Path) -> None:
    kill_often(server, folder, kills=15, trials=20, longest_seconds=0.6)


@pytest.mark.long
def test_a_search_killed_at_200_random_instants(server: Server, folder: Path) -> None:
    kill_often(server, folder, kills=200, trials=200, longest_seconds=0.8)
