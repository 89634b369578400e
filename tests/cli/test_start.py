"""The command line starts at once (contract C9)."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = ("torch", "optuna", "pandas", "sklearn", "scipy", "sqlalchemy", "numpy", "simpleeval")


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('modules:', *sys.modules)"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.partition("modules:")[2].split())


def call(*arguments: str) -> str:
    return (
        f"import sys\nsys.argv = ['tuner', *{arguments!r}]\nfrom tuner.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
    )


@pytest.mark.parametrize("arguments", [("--help",), ("quick", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert modules_after(call(*arguments)).isdisjoint(HEAVY)


def test_analyze_list_and_export_never_import_torch(workplace: Path, tuner) -> None:
    assert tuner("run", "tiny.py", "--trials", "3", "--quiet").code == 0
    for arguments in (("analyze",), ("analyze", "--json"), ("list",), ("export",)):
        assert "torch" not in modules_after(call(*arguments))


@pytest.mark.slow
def test_help_takes_at_most_twice_a_bare_typer_program() -> None:
    """Paired: the two in turn, so that a busy machine slows both; the median ratio counts."""
    bare = (
        "import sys, typer\nsys.argv = ['bare', '--help']\napp = typer.Typer(add_completion=False)\n"
        "@app.command()\ndef one(x: int = 1): 'One.'\n@app.command()\ndef two(y: str = ''): 'Two.'\napp()"
    )
    ours = "import sys\nsys.argv = ['tuner', '--help']\nfrom tuner.cli.main import main\nmain()"
    ratios = [seconds(ours) / seconds(bare) for _ in range(11)]
    assert statistics.median(ratios) <= 2.0


def seconds(code: str) -> float:
    started = time.perf_counter()
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    return time.perf_counter() - started
