"""Studies open in Optuna's own command, in optuna-dashboard, and in pandas (contract C6)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import optuna
import pytest


@pytest.fixture
def database(own_folder: Path, tuner) -> str:
    assert tuner("run", "tiny.py", "--mode", "faults", "--quiet").code == 0
    return "sqlite:///studies/tiny-faults.db"


def test_optunas_own_command_lists_the_trials(database: str) -> None:
    command = [
        sys.executable,
        "-m",
        "optuna.cli",
        "trials",
        "--study-name",
        "tiny-faults",
        "--storage",
        database,
        "-f",
        "json",
    ]
    code = "import sys; from optuna.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *command[3:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["state"] for row in rows] == ["COMPLETE", "PRUNED", "FAIL", "FAIL"]


def test_pandas_gets_the_trials(database: str) -> None:
    frame = optuna.load_study(study_name="tiny-faults", storage=database).trials_dataframe()
    assert frame["params_model.fault"].tolist() == ["none", "nan", "error", "memory"]
    assert frame["user_attrs_gap"].notna().sum() >= 1


class _Silent(WSGIRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.filterwarnings("ignore")
def test_the_dashboard_serves_the_study(database: str) -> None:
    dashboard = pytest.importorskip("optuna_dashboard", reason="pip install optuna-dashboard")
    storage = optuna.storages.RDBStorage(database)
    server = make_server("127.0.0.1", 0, dashboard.wsgi(storage), handler_class=_Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        with urllib.request.urlopen(f"{address}/api/studies", timeout=30) as answer:
            summaries = json.load(answer)["study_summaries"]
        with urllib.request.urlopen(f"{address}/api/studies/{summaries[0]['study_id']}", timeout=30) as answer:
            detail = json.load(answer)
        with urllib.request.urlopen(f"{address}/dashboard", timeout=30) as answer:
            assert answer.status == 200
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert summaries[0]["study_name"] == "tiny-faults"
    assert [trial["state"] for trial in detail["trials"]] == ["Complete", "Pruned", "Fail", "Fail"]
