"""`tuner dashboard`: optuna-dashboard on a study."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import optuna
import pytest

from tuner.cli.serving import Listening, server

DASHBOARD = [sys.executable, "-c", "from tuner.cli.main import main; main()", "dashboard"]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """A study of one trial in `studies/`."""
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    study = optuna.create_study(study_name="mine", storage="sqlite:///studies/mine.db")
    study.add_trial(optuna.trial.create_trial(value=0.5))
    return study


def asked(listening: Listening, path: str) -> dict[str, object]:
    """The answer to one request, as JSON."""
    address = listening.address.partition("/dashboard")[0]
    with urllib.request.urlopen(f"{address}{path}", timeout=30) as answer:
        return dict(json.load(answer))


@pytest.mark.filterwarnings("ignore")
def test_it_shows_the_study_and_does_not_hold_a_search_up(study: optuna.Study) -> None:
    pytest.importorskip("optuna_dashboard")
    with server("mine", Path("studies"), "127.0.0.1", 0) as listening:
        thread = threading.Thread(target=listening.server.serve_forever, daemon=True)
        thread.start()
        try:
            with urllib.request.urlopen(listening.address, timeout=30) as page:
                assert page.status == 200
            api = f"/api/studies/{listening.address.rpartition('/')[2]}"
            study.add_trial(optuna.trial.create_trial(value=0.25))
            found = asked(listening, api)
            assert found["name"] == "mine"
            assert [trial["values"] for trial in found["trials"]] == [[0.5], [0.25]]  # type: ignore[attr-defined]
        finally:
            listening.server.shutdown()
            thread.join()


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a child alone")
def test_ctrl_c_ends_it_quietly(study: optuna.Study) -> None:
    pytest.importorskip("optuna_dashboard")
    with subprocess.Popen(
        [*DASHBOARD, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Background shells ignore the signal, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("mine: http://127.0.0.1:")
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (0, "", "")


def test_without_it_the_command_that_installs_it_is_named(
    study: optuna.Study, tuner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    done = tuner("dashboard", "mine")
    assert done.code == 2
    assert done.err == "error: dashboard: needs optuna-dashboard. Install it: pip install 'tuner[dashboard]'\n"


@pytest.mark.filterwarnings("ignore")
def test_a_port_that_is_taken_is_named(study: optuna.Study, tuner) -> None:
    pytest.importorskip("optuna_dashboard")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = tuner("dashboard", "mine", "--port", port)
    assert done.code == 2
    assert f"127.0.0.1:{port}" in done.err
    assert "Give another --port" in done.err


@pytest.mark.filterwarnings("ignore")
def test_a_study_that_is_not_there_is_named(study: optuna.Study, tuner) -> None:
    pytest.importorskip("optuna_dashboard")
    done = tuner("dashboard", "mime")
    assert done.code == 2
    assert "Did you mean 'mine'?" in done.err
