"""Analyses of a study that is being trained: never locked out, always of one moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.analysis import analyze
from tuner.storage.studies import Studies

FILES = Path(__file__).parents[1] / "files"
CALLS = 200


@pytest.fixture
def search(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A search of many short trials that goes on until it is told to stop."""
    for name in ("tiny.py", "tiny.yaml"):
        shutil.copy(FILES / name, tmp_path)
    script = "from tuner.cli.main import main; main()"
    command = [sys.executable, "-c", script, "quick", "tiny.py", "--trials", "100000", "--parallel", "1", "--quiet"]
    process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    yield process
    process.send_signal(signal.SIGINT)
    process.wait(60)


@pytest.mark.slow
def test_two_hundred_analyses_of_a_running_search(search: subprocess.Popen[bytes], tmp_path: Path) -> None:
    studies = Studies(tmp_path / "studies")
    while not studies.names() or _complete(studies) < 12:
        assert search.poll() is None
        time.sleep(0.1)
    before = 0
    for call in range(CALLS):
        records = studies.read("tiny-quick")
        assert len(records) >= before
        before = len(records)
        if call % 100 == 0:
            assert analyze(records).counts.total == before
        ended = [number for number, state in enumerate(records.states) if state == "COMPLETE"]
        epochs = records.epochs.groupby("trial").size()
        assert (epochs.reindex(ended) == records.reports.groupby("trial").size().reindex(ended)).all()
        assert all(records.values[number] == records.values[number] for number in ended)
        if call % 100 == 0:
            shown = subprocess.run(
                [sys.executable, "-c", "from tuner.cli.main import main; main()", "analyze", "tiny-quick", "--json"],
                cwd=tmp_path, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert json.loads(shown.stdout)["counts"]["total"] >= before
    assert search.poll() is None
    assert before > 12  # it went on in the meantime


def _complete(studies: Studies) -> int:
    try:
        return studies.read("tiny-quick").states.count("COMPLETE")
    except Exception:  # its tables are being made
        return 0
