"""What people install: the wheel, in an environment of its own, used from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("tuner-*.whl"))


def test_wheel_holds_search_spaces_and_templates(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "search_spaces").rglob("*.*"):
        assert f"tuner/{path.relative_to(ROOT).as_posix()}" in names
    assert {"tuner/py.typed", "tuner/cli/templates/task.py.txt", "tuner/cli/templates/space.yaml.txt"} <= names
    assert not any(name.startswith(("tests/", "search_spaces/")) for name in names)


@pytest.mark.slow
def test_installed_wheel_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies are those of this environment, lent by a path file; the package is the wheel's own."""
    home = tmp_path / "environment"
    venv.EnvBuilder(with_pip=False).create(home)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    where = "import tuner; print(tuner.__file__)"
    shown = subprocess.run([python, "-c", where], cwd=empty, env=environment, capture_output=True, text=True)
    assert str(site) in shown.stdout
    command = [python.parent / "tuner", "quick", "digits", "--set", "epochs=1", "--trials", "1"]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 trials are done" in done.stdout
    assert (empty / "studies" / "digits-quick.db").is_file()
