"""Each command as a person uses it."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tuner.cli.main import main

FILES = Path(__file__).parents[1] / "files"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `studies` with one finished study."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("tiny.py", "tiny.yaml"):
            shutil.copy(FILES / name, folder)
        patch.setattr(sys, "argv", ["tuner", "quick", "tiny.py", "--quiet"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return folder / "studies"


@pytest.fixture
def study(finished: Path, own_folder: Path) -> str:
    """A finished study in the current folder."""
    shutil.copytree(finished, own_folder / "studies")
    return "tiny-quick"


def test_quick_prints_a_line_per_trial_and_what_to_do_next(own_folder: Path, tuner) -> None:
    done = tuner("quick", "tiny.py")
    lines = done.out.splitlines()
    assert lines[0] == "study tiny-quick (new): tiny.py, val_mse, minimized, on cpu"
    assert sum(" complete " in line for line in lines) == 6
    assert "6 of 6 trials are done" in done.out
    assert "Best: trial" in done.out
    assert "tuner analyze tiny-quick" in done.out
    again = tuner("quick", "tiny.py")
    assert "resumed at trial 6 of 6" in again.out
    assert " complete " not in again.out


def test_quiet_prints_the_result_only(own_folder: Path, tuner) -> None:
    done = tuner("quick", "tiny.py", "--quiet")
    assert done.out.startswith("tiny-quick: 6 of 6 trials are done")
    assert done.err == ""


def test_json_prints_an_event_a_line(own_folder: Path, tuner) -> None:
    done = tuner("run", "tiny.py", "--mode", "faults", "--json", "--parallel", "1")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert events[0]["event"] == "StudyOpened"
    assert events[-1]["event"] == "StudyEnded"
    ended = [event["state"] for event in events if event["event"] == "TrialEnded"]
    assert ended == ["complete", "diverged", "failed", "failed"]


def test_set_fixes_values_searched_or_not(own_folder: Path, tuner) -> None:
    arguments = ("--set", "learning_rate=0.02", "--set", "epochs=1", "--set", "optimizer_kwargs={weight_decay:0.01}")
    assert tuner("quick", "tiny.py", *arguments, "--trials", "2").code == 0
    trial = json.loads(tuner("analyze", "--json").out)
    assert "learning_rate" not in str(trial["best"]["parameters"])
    tuner("export", "--out", "out")
    recipe = yaml.safe_load(Path("out/recipe.yaml").read_text())["recipe"]
    assert recipe["learning_rate"] == 0.02
    assert recipe["epochs"] == 1
    assert recipe["optimizer_kwargs"] == {"weight_decay": 0.01}


def test_other_settings_are_shown_and_nothing_runs(study: str, tuner) -> None:
    changed = tuner("quick", "tiny.py", "--set", "epochs=2")
    assert changed.code == 2
    assert "recipe.epochs: 4 -> 2" in changed.err
    assert "--study NEW" in changed.err


@pytest.mark.parametrize("target", ["diabetes.py", "svc.py:objective"])
def test_users_own_files_run_resume_and_analyze(own_folder: Path, tuner, target: str) -> None:
    """Forty lines of a task without a search space, and a plain Optuna objective."""
    direction = ["--direction", "maximize"] if ":" in target else ["--set", "epochs=3"]
    assert tuner("quick", target, *direction, "--trials", "3").code == 0
    done = tuner("quick", target, *direction, "--trials", "5")
    assert done.code == 0, done.err
    assert "resumed at trial 3 of 5" in done.out
    assert "5 of 5 trials are done" in done.out
    shown = tuner("analyze")
    assert shown.code == 0
    assert "trial" in shown.out


def test_analyze_names_the_best_trial(study: str, tuner) -> None:
    best = json.loads(tuner("analyze", "--json").out)["best"]
    text = tuner("analyze").out
    assert f"trial {best['number']}" in text
    assert f"{best['value']:.4g}" in text


def test_list_shows_studies_and_their_state(study: str, tuner) -> None:
    tuner("run", "tiny.py", "--mode", "cells", "--quiet")
    Path("studies/broken.db").write_text("no database")
    rows = {row["study"]: row for row in json.loads(tuner("list", "--json").out)}
    assert rows["tiny-quick"]["state"] == "finished"
    assert rows["tiny-quick"]["counted"] == rows["tiny-quick"]["trials"] == 6
    assert rows["broken"]["state"] == "unreadable"
    text = tuner("list").out
    assert "tiny-cells" in text
    assert "not a SQLite database" in text


def test_list_of_nothing_says_how_to_begin(own_folder: Path, tuner) -> None:
    done = tuner("list")
    assert done.code == 0
    assert "tuner quick digits" in done.out
    assert not Path("studies").exists()


def test_train_saves_weights_recipe_epochs_and_series(own_folder: Path, tuner) -> None:
    done = tuner("train", "tiny.py", "--set", "epochs=3", "--set", "model.hidden=8")
    assert done.code == 0, done.err
    folder = Path("studies/tiny-train-001")
    assert {path.name for path in folder.iterdir()} == {
        "weights.safetensors",
        "recipe.yaml",
        "epochs.csv",
        "series.npz",
    }
    rows = list(csv.DictReader((folder / "epochs.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert {"train_loss", "val_loss", "val_close", "learning_rate", "gradient_norm"} <= rows[0].keys()
    assert "val_mse" in done.out
    assert str(folder) in done.out
    assert tuner("train", "tiny.py", "--out", str(folder)).code == 2


def test_a_trial_trained_again_gives_the_same_value(study: str, tuner) -> None:
    best = json.loads(tuner("analyze", "--json").out)["best"]
    again = json.loads(tuner("train", "--from", study, "--json").out.splitlines()[-1])
    assert again["value"] == pytest.approx(best["value"], rel=1e-5)  # it trained with others
    another = str((best["number"] + 1) % 6)
    other = json.loads(tuner("train", "--from", study, "--trial", another, "--json").out.splitlines()[-1])
    assert other["value"] != pytest.approx(best["value"], rel=1e-5)


def test_an_exported_recipe_trains_to_the_same_weights(study: str, tuner) -> None:
    from safetensors.numpy import load_file

    assert tuner("export", study, "--out", "best").code == 0
    assert tuner("train", "best/recipe.yaml", "--out", "again").code == 0
    ours, theirs = load_file("best/weights.safetensors"), load_file("again/weights.safetensors")
    assert all(ours[name] == pytest.approx(theirs[name], rel=1e-4) for name in ours)  # it trained with others
    assert tuner("export", study, "--out", "best").code == 2
    assert tuner("export", study, "--out", "best", "--force").code == 0


def test_export_of_a_trial_without_weights_says_so(study: str, tuner) -> None:
    best = json.loads(tuner("analyze", "--json").out)["best"]["number"]
    done = tuner("export", study, "--trial", str((best + 1) % 6), "--out", "other")
    assert done.code == 0
    assert "were not kept" in done.out
    assert [path.name for path in Path("other").iterdir()] == ["recipe.yaml"]


def test_check_says_shapes_size_time_and_combinations(own_folder: Path, tuner) -> None:
    done = tuner("check", "tiny.py")
    assert done.code == 0, done.err
    for words in (
        "32 samples to train on",
        "21 parameters",
        "works",
        "one epoch of 4 steps",
        "mode cells: 6 combinations",
    ):
        assert words in done.out
    assert "no GPU" in done.out
    assert not Path("studies").exists()


def test_check_of_a_model_that_fails_shows_the_error(own_folder: Path, tuner) -> None:
    done = tuner("check", "tiny.py", "--set", "model.fault=error", "--mode", "quick")
    assert done.code == 1
    assert "this model never works" in done.err


def test_init_writes_a_task_that_works_at_once(own_folder: Path, tuner) -> None:
    done = tuner("init", "my_task")
    assert done.code == 0
    assert tuner("check", "my_task.py").code == 0
    assert tuner("quick", "my_task.py", "--trials", "2", "--set", "epochs=2").code == 0
    again = tuner("init", "my_task")
    assert again.code == 2
    assert "--force" in again.err
    assert tuner("init", "my-task").code == 2


def test_bare_quick_takes_the_only_search_space(own_folder: Path, tuner) -> None:
    done = tuner("quick", "--trials", "1")
    assert done.code == 0, done.err
    assert "study tiny-quick" in done.out


def test_bare_quick_takes_the_last_used_else_lists(own_folder: Path, tuner) -> None:
    Path("tiny.yaml").rename("other.txt")
    listed = tuner("quick")
    assert listed.code == 2
    assert "tuner quick digits" in listed.err
    Path("other.txt").rename("tiny.yaml")
    assert tuner("quick", "tiny.py", "--trials", "1").code == 0
    Path("second.yaml").write_text(Path("tiny.yaml").read_text())
    done = tuner("quick", "--trials", "2")
    assert done.code == 0, done.err
    assert "resumed at trial 1 of 2" in done.out


def test_debug_shows_the_traceback(own_folder: Path, tuner, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuner.errors import UsageError

    monkeypatch.setenv("TUNER_DEBUG", "1")
    with pytest.raises(UsageError):
        tuner("quick", "digts")
