"""A search killed in real processes: nothing lost, nothing trained twice, the same table as one never killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-c", "from tuner.cli.main import main; main()", "run", "tiny.py", "--mode", "pruned"]
BUDGET = ["--trials", "20"]


def start(*more: str, log: str = "built.txt") -> subprocess.Popen[str]:
    environment = {**os.environ, "TINY_LOG": log, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, *BUDGET, *more], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def load(folder: str = "studies") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="tiny-pruned", storage=f"sqlite:///{folder}/tiny-pruned.db").trials


def count(query: str, folder: str = "studies") -> int:
    """A number read from the study's file without touching it; 0 while there is none."""
    path = Path(folder, "tiny-pruned.db")
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def finished() -> int:
    """Trials told so far."""
    return count("SELECT COUNT(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')")


def reported() -> int:
    """Epochs reported so far."""
    return count("SELECT COUNT(*) FROM trial_intermediate_values")


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Wait for a condition that `process` brings about; its end before that is a failure."""
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def table(folder: str) -> list[tuple[Any, ...]]:
    return [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in load(folder)]


def test_kill_9_halfway_loses_nothing_and_trains_nothing_twice(own_folder: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    killed = start("--set", "model.hidden=64")
    wait_until(killed, lambda: finished() >= 10)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = finished()
    assert before < 20
    again = start("--set", "model.hidden=64")
    out, err = again.communicate()
    assert again.returncode == 0, err
    assert f"resumed at trial {before} of 20" in out
    found = load()
    assert len(found) == 20
    assert not any(trial.state == TrialState.RUNNING for trial in found)
    # Each process probes and checks with models of its own, as many as a third one builds, which has nothing to train;
    # beyond those a trial builds one, and one was cut short.
    both = Path("built.txt").read_text().count("built")
    start("--set", "model.hidden=64").communicate()
    probes = Path("built.txt").read_text().count("built") - both
    assert 20 <= both - 2 * probes <= 21
    whole = start("--set", "model.hidden=64", "--studies", "whole", log="other.txt")
    assert whole.wait() == 0
    whole.communicate()
    assert table("studies") == table("whole")


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_at_the_next_step_and_say_how_to_go_on(own_folder: Path, signal_number: int, code: int) -> None:
    running = start("--set", "epochs=100000", "--set", "model.hidden=8")
    wait_until(running, lambda: reported() > 0)
    running.send_signal(signal_number)
    _, err = running.communicate(timeout=20)
    assert running.returncode == code
    assert "0 trials are kept in studies/tiny-pruned.db" in err
    assert "tuner run tiny.py --mode pruned --trials 20 --set epochs=100000" in err
    assert "Traceback" not in err


def test_two_conductors_do_not_train_one_study(own_folder: Path) -> None:
    first = start("--set", "epochs=100000")
    wait_until(first, lambda: reported() > 0)
    second = start("--set", "epochs=100000")
    _, err = second.communicate(timeout=60)
    assert second.returncode == 1
    assert "another process" in err
    assert f"pid {first.pid}" in err
    first.send_signal(signal.SIGKILL)
    first.communicate()
