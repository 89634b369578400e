"""Timelines, ready recipes and schedules from the command line, as a user has them."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from tuner.search_space import build_space, find_target
from tuner.search_space.yaml_file import read_yaml
from tuner.storage.studies import Studies

STEPPED = "# steps: 100\nSTEP,PHASE,ACTION,learning_rate:linear:step\n0,first,,0.01\n50,second,,0.1\n"
SMOOTH = "# steps: 100\nSTEP,PHASE,ACTION,learning_rate\n0,first,,0.01\n50,second,,0.1\n"
SPACE = """
task: tiny.py
metric: val_mse
recipe: {epochs: 2, batch_size: 8, loss: mse}
modes:
  quick:
    sampler: grid
    search:
      timeline: {choices: [stepped.csv, smooth.csv]}
      seed: {low: 0, high: 1}
  keys:
    sampler: random
    trials: 3
    recipe: {timeline: smooth.csv}
    search:
      timeline.learning_rate@50: {low: 0.01, high: 0.5, log: true}
      timeline.learning_rate@80: {low: 0.001, high: 0.01}
"""


@pytest.fixture
def timed(own_folder: Path) -> Path:
    Path("stepped.csv").write_text(STEPPED)
    Path("smooth.csv").write_text(SMOOTH)
    Path("timed.yaml").write_text(SPACE)
    return own_folder


def trials(name: str) -> list[optuna.trial.FrozenTrial]:
    return Studies(Path("studies")).load(name).study.get_trials()


def test_a_searched_timeline_is_stored_whole_in_every_trial(timed: Path, tuner) -> None:
    assert tuner("quick", "timed.yaml").code == 0
    found = trials("tiny-quick")
    assert [(trial.params["timeline"], trial.params["seed"]) for trial in found] == [
        ("stepped.csv", 0),
        ("stepped.csv", 1),
        ("smooth.csv", 0),
        ("smooth.csv", 1),
    ]
    timeline = found[2].user_attrs["recipe"]["timeline"]
    assert timeline["name"] == "smooth.csv"
    assert timeline["steps"] == 100
    assert found[2].user_attrs["recipe"]["scheduler"] is None
    assert found[0].value != found[2].value
    Path("stepped.csv").unlink()
    Path("smooth.csv").unlink()
    again = tuner("train", "--from", "tiny-quick", "--trial", "2", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out.splitlines()[-1])["value"] == found[2].value


def test_a_timeline_file_that_changed_is_a_difference(timed: Path, tuner) -> None:
    assert tuner("quick", "timed.yaml", "--trials", "1").code == 0
    Path("smooth.csv").write_text(SMOOTH.replace("50,second", "60,second"))
    refused = tuner("quick", "timed.yaml")
    assert refused.code == 2
    assert "timelines.smooth.csv" in refused.err
    assert len(trials("tiny-quick")) == 1


def test_keys_are_searched_and_the_first_trial_has_the_files_own(timed: Path, tuner) -> None:
    assert tuner("run", "timed.yaml", "--mode", "keys").code == 0
    first, second, _ = trials("tiny-keys")
    assert first.params["timeline.learning_rate@50"] == 0.1
    rows = second.user_attrs["recipe"]["timeline"]["keyframes"]
    keys = {row["STEP"]: row["learning_rate"] for row in rows}
    assert keys[0] == 0.01
    assert keys[50] == second.params["timeline.learning_rate@50"]
    assert keys[80] == second.params["timeline.learning_rate@80"]


def test_an_exported_recipe_carries_its_timeline(timed: Path, tuner) -> None:
    assert tuner("run", "timed.yaml", "--mode", "keys", "--trials", "1").code == 0
    assert tuner("export", "tiny-keys", "--out", "best").code == 0
    Path("smooth.csv").unlink()
    shown = tuner("schedule", "best/recipe.yaml")
    assert shown.code == 0, shown.err
    assert "phases: first from step 0, second from step 4" in shown.out


def test_schedule_draws_every_curve_and_writes_a_picture(timed: Path, tuner) -> None:
    shown = tuner("schedule", "tiny.py", "--set", "timeline=smooth.csv", "--png", "curves.png")
    assert shown.code == 0, shown.err
    assert "learning_rate: 0.01 first, 0.01 to 0.1, 0.1 last" in shown.out
    assert "second from step" in shown.out
    from PIL import Image

    with Image.open("curves.png") as picture:
        assert picture.size[0] > 500
        assert len(picture.convert("L").getcolors(1000) or []) > 10
    assert not list(Path().glob("studies/*"))


def test_schedule_shows_the_parts_rates_and_a_cycled_momentum(own_folder: Path, tuner) -> None:
    shown = tuner("schedule", "digits", "--recipe", "sgd-onecycle", "--set", "lr_multipliers.recurrence=0.2")
    assert shown.code == 0, shown.err
    for text in ("learning_rate: 0.004 first", "learning_rate (recurrence): 0.0008 first", "momentum: 0.95 first"):
        assert text in shown.out
    assert Path("studies/digits-schedule.png").is_file()


def test_schedule_says_why_a_rate_never_changes(own_folder: Path, tuner) -> None:
    given = ["--set", "scheduler=StepLR", "--set", "scheduler_kwargs.step_size=30"]
    shown = tuner("schedule", "tiny.py", *given)
    assert "warning: the learning rate never changes: StepLR first changes the rate after 30 epochs" in shown.out
    searched = tuner("quick", "tiny.py", *given, "--trials", "1")
    assert "StepLR first changes the rate after 30 epochs; the run has 4" in searched.out + searched.err


def test_a_ready_recipe_replaces_what_belongs_to_it_and_leaves_the_rest(own_folder: Path) -> None:
    target = find_target("digits")
    plain = build_space(target, "full")
    laid = build_space(target, "full", {"epochs": 3}, recipe="sgd-onecycle")
    file = read_yaml(Path(__file__).parents[2] / "search_spaces/recipes/sgd-onecycle.yaml")
    assert laid.recipe.optimizer == "SGD"
    assert laid.recipe.scheduler == "OneCycleLR"
    assert laid.recipe.scheduler_configs.interval == "step"
    assert laid.recipe.optimizer_kwargs == file["optimizer_kwargs"]
    assert laid.recipe.epochs == 3
    assert laid.recipe.model == plain.recipe.model
    paths = {entry.path for entry in laid.parameters}
    assert not paths & {"optimizer", "learning_rate", "optimizer_kwargs.momentum", "optimizer_kwargs.weight_decay"}
    assert "model.channels" in paths


def test_the_alias_of_the_recurrent_multiplier_can_be_set_and_searched(own_folder: Path) -> None:
    target = find_target("digits")
    given = build_space(target, "quick", {"recurrent_learning_rate_multiplier": 0.2})
    assert given.recipe.lr_multipliers == {"recurrence": 0.2}
    Path("alias.yaml").write_text(
        "task: digits\nmetric: val_accuracy\nrecipe: {recurrent_learning_rate_multiplier: 0.5}\n"
        "modes: {quick: {trials: 1, search: {recurrent_learning_rate_multiplier: {low: 0.1, high: 1.0}}}}\n"
    )
    searched = build_space(find_target("alias.yaml"), "quick")
    assert [entry.path for entry in searched.parameters] == ["lr_multipliers.recurrence"]
    assert searched.default_values()[0] == {"lr_multipliers.recurrence": 0.5}


def test_every_mode_runs_by_run_and_quick_and_full_are_its_shorthands(timed: Path, tuner) -> None:
    assert tuner("run", "timed.yaml", "--mode", "quick", "--trials", "1").code == 0
    resumed = tuner("quick", "timed.yaml", "--trials", "1")
    assert resumed.code == 0
    assert len(trials("tiny-quick")) == 1
