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
        (["--html", "studies"], "--html: a folder, where a file should be (got 'studies')"),
        (["--html", "-"], "--html: takes a file's name"),
        (["--html", "studies/small.db"], "is no page of tuner"),
        (["--csv", "studies/small.db", "--force"], "a database, which is not overwritten"),
        (["--csv", "nowhere/trials.csv"], "there is no such folder"),
        (["--next", "-"], "--next: takes a file's name"),
        (["--next", "next.yaml"], "no search space that advice could change"),
        (["--gap", "nan"], "a gap is a finite number"),
        (["--html", "nowhere/report.html"], "there is no such folder"),
        (["--html", "report.html", "--json"], "--json has no page"),
        (["--html", "report.html", "--group-by", "x"], "--group-by has no page"),
    ],
)
def test_files_that_cannot_be_written_are_refused(arguments: list[str], said: str, study: str, tuner) -> None:
    before, names = Path("studies/small.db").read_bytes(), {path.name for path in Path().iterdir()}
    done = tuner("analyze", study, *arguments)
    assert done.code == 2
    assert said in done.err
    assert done.out == "" and Path("studies/small.db").read_bytes() == before
    assert {path.name for path in Path().iterdir()} == names


def test_a_page_is_written_over_an_older_one_and_over_nothing_else(study: str, tuner) -> None:
    for _ in range(2):
        assert tuner("analyze", study, "--html", "report.html").code == 0
    Path("mine.html").write_text("<!DOCTYPE html><html><head><title>mine</title></head></html>")
    assert tuner("analyze", study, "--html", "mine.html").code == 2
    assert "mine" in Path("mine.html").read_text()
