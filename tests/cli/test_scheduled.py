"""Timelines, ready recipes and schedules from the command line, as a user has them."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from tuner.errors import SearchSpaceError
from tuner.probe import Probe
from tuner.resolve import resolve
from tuner.search_space import build_space, find_target
from tuner.search_space.yaml_file import read_yaml
from tuner.storage.studies import Studies
from tuner.tasks import load_task

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
    assert json.loads(again.out.splitlines()[-1])["value"] == pytest.approx(found[2].value, rel=1e-5)


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


def resolved(space: str, mode: str = "quick", **settings: object) -> Probe:
    """What `resolve` says of a search space; its task is `tiny.py`."""
    head = "task: tiny.py\nmetric: val_mse\nrecipe: {epochs: 2, batch_size: 8}\n"
    Path("tried.yaml").write_text(f"{head}modes: {{{mode}: {{trials: 2, {space}}}}}")
    target = find_target("tried.yaml")
    return resolve(build_space(target, mode, settings), load_task(target.task))[1]


RATE = "{STEP: 0, learning_rate: 0.1}, {STEP: 4, learning_rate: 0.2}"
VOID = [
    ("recipe: {scheduler: null}, search: {scheduler_kwargs.eta_min: {low: 0.0, high: 0.1}}", "has no scheduler"),
    (
        f"recipe: {{timeline: {{keyframes: [{RATE}]}}}}, search: {{learning_rate: {{low: 0.1, high: 1.0}}}}",
        "the timeline moves learning_rate",
    ),
    (
        "recipe: {timeline: {keyframes: [{STEP: 0, momentum: 0.5}, {STEP: 9, momentum: 0.9}]}}, "
        "search: {optimizer_kwargs.betas: {choices: [[0.9, 0.99], [0.8, 0.99]]}}",
        "the timeline moves momentum",
    ),
    (
        "recipe: {timeline: {keyframes: [{STEP: 0, mse: 0.5, l1: 0.1}]}}, search: {loss: {choices: [mse, l1]}}",
        "the timeline moves loss weights",
    ),
    (
        f"recipe: {{timeline: {{keyframes: [{RATE}]}}}}, search: {{seed: {{low: 0, high: 3}}}}, "
        "derived: {learning_rate: 0.1 * (seed + 1)}",
        "the timeline moves learning_rate",
    ),
]


@pytest.mark.parametrize(("space", "why"), VOID)
def test_what_nothing_reads_cannot_be_searched(own_folder: Path, space: str, why: str) -> None:
    with pytest.raises(SearchSpaceError, match=f"{why}.*would be void"):
        resolved(space)


OUT_OF_BOUNDS = [
    ("SGD", "learning_rate", -0.1),
    ("SGD", "gradient_clip", 0.0),
    ("SGD", "mse", -1.0),
    ("SGD", "weight_decay", -5.0),
    ("Adam", "momentum", 1.0),
    ("RMSprop", "momentum", 0.0),
]


@pytest.mark.parametrize(("optimizer", "column", "value"), OUT_OF_BOUNDS)
def test_timelines_stay_within_the_recipes_bounds(own_folder: Path, optimizer: str, column: str, value: float) -> None:
    rows = f"[{{STEP: 0, {column}: {value}}}, {{STEP: 9, {column}: 0.5}}]"
    with pytest.raises(SearchSpaceError) as error:
        resolved(f"recipe: {{scheduler: null, optimizer: {optimizer}, timeline: {{keyframes: {rows}}}}}, "
                 "search: {seed: {low: 0, high: 3}}")  # fmt: skip
    assert column in error.value.place
    assert error.value.value == value


def test_combinations_are_checked_not_only_single_choices(own_folder: Path) -> None:
    with pytest.raises(SearchSpaceError, match=r"combination cannot be trained.*momentum") as error:
        resolved("search: {optimizer: {choices: [SGD, Adagrad]}, scheduler: {choices: [null, OneCycleLR]}}")
    assert error.value.value == {"optimizer": "Adagrad", "scheduler": "OneCycleLR"}
    with pytest.raises(SearchSpaceError, match="the timeline moves the learning rate, and so would"):
        resolved(f"search: {{timeline: {{choices: [null, {{keyframes: [{RATE}]}}]}}, "
                 "scheduler: {choices: [null, ExponentialLR]}}, recipe: {scheduler_kwargs: {gamma: 0.9}}")  # fmt: skip


def test_a_rate_may_be_searched_where_only_some_timelines_move_it(timed: Path) -> None:
    found = resolved(
        "search: {timeline: {choices: [null, smooth.csv]}, "
        "learning_rate: {low: 0.01, high: 0.1, when: {timeline: null}}}"
    )
    assert found.warnings == ()


def test_a_condition_on_a_fixed_timeline_holds_by_its_name(timed: Path) -> None:
    text = "search: {seed: {low: 0, high: 3, when: {timeline: smooth.csv}}}"
    Path("named.yaml").write_text(f"task: tiny.py\nmetric: val_mse\nmodes: {{quick: {{trials: 2, {text}}}}}")
    for given, active in (("smooth.csv", True), ("stepped.csv", False)):
        space = build_space(find_target("named.yaml"), "quick", {"timeline": given})
        assert bool(space.default_values()[0]) == active


def test_the_default_recipes_timeline_is_found_among_the_choices(timed: Path) -> None:
    Path("second.yaml").write_text(
        "task: tiny.py\nmetric: val_mse\nrecipe: {timeline: smooth.csv}\n"
        "modes: {quick: {trials: 2, search: {timeline: {choices: [stepped.csv, {file: smooth.csv}]}}}}"
    )
    space = build_space(find_target("second.yaml"), "quick")
    assert space.default_values() == ({"timeline": {"file": "smooth.csv"}}, [])


def test_an_enqueued_recipe_keeps_its_timeline(timed: Path, tuner) -> None:
    assert tuner("quick", "timed.yaml").code == 0
    assert tuner("export", "tiny-quick", "--trial", "3", "--out", "best").code == 0
    Path("more.yaml").write_text(SPACE.replace("sampler: grid", "sampler: random\n    trials: 2"))
    assert tuner("quick", "more.yaml", "--study", "more", "--enqueue", "best/recipe.yaml").code == 0
    assert trials("more")[1].params == {"timeline": "smooth.csv", "seed": 1}


def test_a_key_cannot_be_set_on_a_searched_timeline(timed: Path, tuner) -> None:
    refused = tuner("quick", "timed.yaml", "--set", "timeline.learning_rate@50=0.09")
    assert refused.code == 2
    assert "the timeline is searched" in refused.err
    assert "--set timeline=FILE" in refused.err


def test_another_timeline_leaves_nothing_of_the_one_before(timed: Path, tuner) -> None:
    assert tuner("quick", "timed.yaml").code == 0
    given = ["--trial", "0", "--set", "timeline.file=smooth.csv", "--out", "o"]
    assert tuner("train", "--from", "tiny-quick", *given).code == 0
    timeline = read_yaml(Path("o/recipe.yaml"))["recipe"]["timeline"]
    assert timeline["name"] == "smooth.csv"
    both = "{file: smooth.csv, keyframes: [{STEP: 0, learning_rate: 0.5}]}"
    with pytest.raises(SearchSpaceError, match="keyframes"):
        resolved(f"recipe: {{timeline: {both}}}, search: {{seed: {{low: 0, high: 1}}}}")


def test_the_mode_that_is_drawn_says_what_it_searches(timed: Path, tuner) -> None:
    shown = tuner("schedule", "timed.yaml", "--mode", "quick")
    assert shown.code == 0, shown.err
    assert "the mode searches; drawn for timeline=stepped.csv, seed=0" in shown.out
    assert "learning_rate: 0.01 first" in shown.out


def test_values_set_in_vain_draw_a_warning(timed: Path, tuner) -> None:
    given = ["--set", "timeline=smooth.csv", "--set", "learning_rate=0.7", "--set", "epochs=1"]
    trained = tuner("train", "tiny.py", *given)
    assert "learning_rate is set in vain: the timeline moves learning_rate" in trained.out + trained.err


def test_a_changed_key_is_shown_by_itself(timed: Path, tuner) -> None:
    assert tuner("quick", "timed.yaml", "--trials", "1").code == 0
    Path("smooth.csv").write_text(SMOOTH.replace("0.1", "0.2"))
    refused = tuner("quick", "timed.yaml")
    assert "timelines.smooth.csv.keyframes.1.learning_rate: 0.1 -> 0.2" in refused.err


def test_training_into_what_is_no_folder_is_refused_before_it_begins(own_folder: Path, tuner) -> None:
    Path("file.txt").write_text("")
    refused = tuner("train", "tiny.py", "--out", "file.txt/sub")
    assert refused.code == 2
    assert "--out: not a folder (got 'file.txt')" in refused.err
    failed = tuner("schedule", "tiny.py", "--png", "file.txt/curves.png")
    assert failed.code == 1
    assert "unexpected" not in failed.err


def test_analyze_shows_what_else_the_best_epoch_recorded(own_folder: Path, tuner) -> None:
    assert tuner("quick", "tiny.py", "--trials", "2").code == 0
    found = json.loads(tuner("analyze", "tiny-quick", "--json").out)
    assert found["recorded"]["val_mse"] == found["best"]["value"]
    shown = " ".join(tuner("analyze", "tiny-quick").out.split())
    assert f"recorded val_l1 {found['recorded']['val_l1']:#.4g}" in shown
