"""`tuner analyze A B` and `--csv`, as a person uses them on studies that were really trained."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import optuna
import pytest

from tuner.cli.main import main

FILES = Path(__file__).parents[1] / "files"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three studies: `a` and `b` of one metric, and `grid` with a parameter that is not always active."""
    folder = tmp_path_factory.mktemp("trained")
    for name in ("tiny.py", "tiny.yaml"):
        shutil.copy(FILES / name, folder)
    runs = {"a": ("quick", "6"), "b": ("pruned", "12"), "grid": ("cells", "6")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for study, (mode, trials) in runs.items():
            command = ["tuner", "run", "tiny.py", "--mode", mode, "--study", study, "--quiet"]
            patch.setattr(sys, "argv", command if mode == "cells" else [*command, "--trials", trials])
            with pytest.raises(SystemExit) as ended:
                main()
            assert not ended.value.code
    return folder


@pytest.fixture(autouse=True)
def _there(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(trained, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")


def best(study: str) -> float:
    return float(optuna.load_study(study_name=study, storage=f"sqlite:///studies/{study}.db").best_value)


def test_studies_stand_side_by_side(tuner) -> None:
    done = tuner("analyze", "a", "b")
    assert done.code == 0, done.err
    text = " ".join(done.out.split())
    for words in (
        f"a {best('a'):#.4g} (of 6 trials), b {best('b'):#.4g} (of 12 trials)",
        "after 6 trials each",
        "(another had ended)",
        "val_mse over trials a a, b b",
        "the best trials differ in",
        "One best value against another tells little",
        "tuner confirm a; tuner confirm b",
    ):
        assert words in text


def test_the_newest_study_is_analyzed_alone_where_none_is_named(tuner) -> None:
    assert "Studies side by side" not in tuner("analyze").out


def test_json_has_each_analysis_and_the_comparison(tuner) -> None:
    found = json.loads(tuner("analyze", "a", "b", "--json").out)
    assert [*found] == ["schema", "studies", "comparison"]
    alone = json.loads(tuner("analyze", "a", "--json").out)
    assert alone.pop("schema") == found["schema"] == 1
    assert found["studies"][0] == alone
    points = found["comparison"]["by_trials"]
    assert points[-1]["values"] == [None, best("b")]
    at_six = next(point for point in points if point["at"] == 6)
    storage = "sqlite:///studies/b.db"
    trials = optuna.load_study(study_name="b", storage=storage).trials
    first = sorted(trials, key=lambda trial: trial.datetime_complete)[:6]
    assert at_six["values"] == [best("a"), min(t.value for t in first if t.state.name == "COMPLETE")]


def test_a_study_is_a_level_to_group_by(tuner) -> None:
    done = tuner("analyze", "a", "b", "--group-by", "study")
    assert done.code == 0, done.err
    assert "Comparison by study" in done.out
    assert "variance of log mse" in done.out  # their per-step series lie in two folders
    assert "no per-step series" not in done.out


def test_confirmed_studies_are_told_apart_or_not(tuner) -> None:
    for study in ("a", "b"):
        assert tuner("confirm", study, "--top", "1", "--seeds", "3", "--quiet").code == 0
    found = json.loads(tuner("analyze", "a", "b", "--json").out)["comparison"]
    (pair,) = found["differences"]
    assert pair["tested"]["test"] == "paired t"
    assert (pair["first_mean"]["trials"], found["unconfirmed"]) == (3, [])
    text = " ".join(tuner("analyze", "a", "b").out.split())
    assert "over fresh seeds on validation" in text
    assert "tells little" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a", "a"), "a study cannot be compared with itself"),
        (("a", "nope"), "there is no study 'nope'"),
        (("a", "b", "--group-by", "learning_rte"), "Did you mean 'learning_rate'?"),
        (("a", "b", "--csv", "x.csv"), "--csv: takes one study at a time"),
        (("a", "b", "--next", "x.yaml"), "--next: takes one study at a time"),
        (("a", "--csv", "-", "--json"), "cannot go with --json"),
        (("a", "--csv", "tiny.yaml"), "Give --force to overwrite it."),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_what_cannot_be_is_said(arguments: tuple[str, ...], words: str, tuner) -> None:
    done = tuner("analyze", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_the_table_of_trials_is_a_file(tuner) -> None:
    done = tuner("analyze", "grid", "--csv", "trials.csv")
    assert done.code == 0, done.err
    assert "Summary" in done.out
    assert done.out.endswith("trials.csv: the table of 6 trials\n")
    with Path("trials.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    trials = optuna.load_study(study_name="grid", storage="sqlite:///studies/grid.db").trials
    assert [float(row["value"]) for row in rows] == [trial.value for trial in trials]
    assert [row["optimizer"] for row in rows] == [trial.params["optimizer"] for trial in trials]
    momentum = [str(trial.params.get("optimizer_kwargs.momentum", "")) for trial in trials]
    assert [row["optimizer_kwargs.momentum"] for row in rows] == momentum
    assert tuner("analyze", "grid", "--csv", "trials.csv", "--force").code == 0


def test_the_table_alone_goes_to_standard_output(tuner) -> None:
    assert tuner("analyze", "grid", "--csv", "trials.csv").code == 0
    assert tuner("analyze", "grid", "--csv", "-").out == Path("trials.csv").read_text()


def test_json_stays_json_beside_a_table(tuner) -> None:
    done = tuner("analyze", "grid", "--json", "--csv", "trials.csv")
    assert json.loads(done.out)["name"] == "grid"
    assert done.err == "trials.csv: the table of 6 trials\n"
