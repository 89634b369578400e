"""A search killed from outside, on the command line: it says where it goes on, and comes to the same end."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest

COMMAND = [sys.executable, "-c", "from tuner.cli.main import main; main()", "run", "tiny.py", "--mode", "pruned"]
OPTIONS = ["--trials", "40", "--parallel", "4", "--set", "model.hidden=64"]


def start(studies: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*COMMAND, *OPTIONS, "--studies", studies]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(studies: str) -> int:
    """Trials told so far, read without touching the study's file; 0 while there is none."""
    path = Path(studies, "tiny-pruned.db")
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            query = "SELECT COUNT(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')"
            return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def table(studies: str) -> list[tuple[Any, ...]]:
    trials = optuna.load_study(study_name="tiny-pruned", storage=f"sqlite:///{studies}/tiny-pruned.db").trials
    return [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in trials]


@pytest.mark.slow
def test_kill_9_halfway_on_the_command_line(own_folder: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    killed = start("killed")
    while finished("killed") < 10:
        assert killed.poll() is None, killed.communicate()[1]
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = finished("killed")
    assert before < 40
    again = start("killed")
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert f"resumed at trial {before} of 40" in out
    whole = start("whole")
    out, err = whole.communicate()
    assert whole.returncode == 0, err
    assert table("killed") == table("whole")
