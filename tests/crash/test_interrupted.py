"""SIGINT and SIGTERM amid an epoch with three trials in flight."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from harness import Server, Trained, resumed
from job import QUEUE, TASK, Job

pytestmark = pytest.mark.slow

STEP = 21
"""A training step in the middle of an epoch; each has two."""


@pytest.mark.parametrize(("number", "code", "step"), [(2, 130, STEP + i) for i in range(6)] + [(15, 143, STEP)])
def test_interrupted_and_resumed(
    server: Server, folder: Path, reference: Trained, number: int, code: int, step: int
) -> None:
    job = Job(str(folder / "cut"))
    trained = Trained(Path(job.folder))
    trained.folder.mkdir()
    assert server.run(replace(job, environment={"CRASH_SIGNAL": f"{number}@{step}"})) == code, trained.said
    resumed(server, job, reference, f"signal {number} at step {step}")


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_interrupted_on_the_command_line(
    server: Server, folder: Path, reference: Trained, number: int, code: int
) -> None:
    job = Job(str(folder / "cut"))
    trained = Trained(Path(job.folder))
    command = [sys.executable, "-c", "from tuner.cli.main import main; main()", "run", str(TASK)]
    command += ["--mode", "tpe-median", "--enqueue", str(QUEUE), "--study", "crash", "--device", "cpu"]
    command += ["--studies", str(trained.database.parent)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CRASH_SIGNAL": f"{number}@{STEP}"}
    ended = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert ended.returncode == code, ended.stderr
    assert f"trials are kept in {trained.database}" in ended.stderr
    assert shlex.join(["tuner", *command[3:]]) in ended.stderr
    assert "Traceback" not in ended.stderr
    trained.check_integrity()
    assert server.run(job) == 0, trained.said
    assert trained.table() == reference.table()
