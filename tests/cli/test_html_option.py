"""`tuner analyze --html`: the report as a file."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest


@pytest.fixture
def study(own_folder: Path) -> str:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    Path("studies").mkdir()
    made = optuna.create_study(study_name="small", storage="sqlite:///studies/small.db")
    made.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=3)
    return "small"


def test_the_page_is_written_and_said_in_a_line(study: str, tuner) -> None:
    done = tuner("analyze", study, "--html", "report.html")
    assert done.code == 0, done.err
    assert done.out.startswith("report.html: ") and done.out.count("\n") == 1
    assert Path("report.html").read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in Path().glob(".report*")] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--html", "studies"], "a page is a file"),
        (["--html", "nowhere/report.html"], "its folder does not exist"),
        (["--html", "report.html", "--json"], "--json has no page"),
        (["--html", "report.html", "--group-by", "x"], "--group-by has no page"),
    ],
)
def test_what_cannot_be_a_page_is_refused(arguments: list[str], said: str, study: str, tuner) -> None:
    done = tuner("analyze", study, *arguments)
    assert done.code == 2
    assert said in done.err
    assert not Path("report.html").exists() and not Path("nowhere").exists()
