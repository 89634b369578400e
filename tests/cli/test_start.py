"""The command line starts at once (contract C9); `benchmarks/startup.py` times it."""

from __future__ import annotations

import subprocess
import sys
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
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
    )


@pytest.mark.parametrize("arguments", [("--help",), ("quick", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert modules_after(call(*arguments)).isdisjoint(HEAVY)


def test_reading_a_confirmation_never_imports_torch() -> None:
    assert "torch" not in modules_after("import tuner.analysis.confirmation, tuner.report.terminal")


def test_analyze_list_and_export_never_import_torch(own_folder: Path, tuner) -> None:
    """One process for all: none of them may."""
    assert tuner("quick", "tiny.py", "--trials", "12", "--set", "epochs=1", "--quiet").code == 0
    assert tuner("quick", "tiny.py", "--trials", "2", "--set", "epochs=1", "--quiet", "--study", "other").code == 0
    commands = [
        ("analyze", "tiny-quick"), ("analyze", "tiny-quick", "--json"), ("analyze", "--csv", "-"),
        ("analyze", "tiny-quick", "--group-by", "model.hidden"), ("analyze", "tiny-quick", "other"),
        ("list",), ("export",),
    ]  # fmt: skip
    assert "torch" not in modules_after("".join(call(*arguments) for arguments in commands))
