"""What a run has on a test split: what validation would say of the same samples, to the bit where it trains alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fusing import CPU, Lively, recipe_with

from tuner.probe import probe_task
from tuner.recipe import Recipe
from tuner.tasks import Data, Samples
from tuner.training.checkpoints import load_checkpoint, save_checkpoint
from tuner.training.fused.training import FusedTraining
from tuner.training.run import Goal
from tuner.training.testing import scores_on_test
from tuner.training.trainer import Trainer

KEYFRAMES = [
    {"STEP": 0, "loss_weights.l1": 0.0, "ACTION": ""},
    {"STEP": 7, "loss_weights.l1": 1.0, "ACTION": "mark"},
    {"STEP": 13, "loss_weights.l1": 3.0, "ACTION": "mark"},
    {"STEP": 19, "loss_weights.l1": 0.5, "ACTION": "mark"},
]
"""Four epochs of five steps: at each epoch's end other weights, and another state of the task."""


class Validated(Lively):
    """Its test split is what it validates on."""

    def data(self, options: Any) -> Data:
        data = super().data(options)
        return Data(data.train, data.validation, test=data.validation)


def trainer_for(goal: Goal, recipe: Recipe) -> Trainer:
    task = Validated()
    return Trainer(task, goal, probe_task(task, recipe).terms, CPU)


def recipe_of(**values: Any) -> Recipe:
    weights = {"mse": 1.0, "l1": 0.1, "drift": 0.5}
    return recipe_with(epochs=4, loss_weights=weights, timeline={"keyframes": KEYFRAMES}, data={"noise": 0.1}, **values)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("value", ["best", "last"])
@pytest.mark.parametrize("maximize", [False, True])
def test_scores_are_those_of_the_epoch_that_is_kept(fused: bool, value: Any, maximize: bool) -> None:
    """Weights, the task's state and the loss weights of that epoch."""
    recipe = recipe_of()
    trainer = trainer_for(Goal("val_mse", maximize, value), recipe)
    run = FusedTraining(trainer).start(recipe) if fused else trainer.start(recipe)
    while not run.done:
        run.epoch()
    assert run.kept_epoch is not None
    recorded = run.records[run.kept_epoch - 1].values
    if value == "best":
        assert run.kept_epoch < 4  # so that it is told from the last one
    scores = scores_on_test(trainer, run)
    assert scores is not None
    expected = {name.replace("val_", "test_"): found for name, found in recorded.items() if name.startswith("val_")}
    assert expected["test_ratio"] == pytest.approx(expected["test_mse"] / expected["test_l1"])
    assert scores == (pytest.approx(expected, rel=1e-4) if fused else expected)


@pytest.mark.parametrize("fused", [False, True])
def test_a_run_that_went_on_from_a_checkpoint_scores_alike(fused: bool, tmp_path: Path) -> None:
    """The epoch that is kept lies before the checkpoint."""
    recipe = recipe_of()
    trainer = trainer_for(Goal("val_mse", maximize=True), recipe)

    def begun() -> Any:
        return FusedTraining(trainer).start(recipe) if fused else trainer.start(recipe)

    run = begun()
    while not run.done:
        run.epoch()
    again = begun()
    for _ in range(3):
        again.epoch()
    save_checkpoint(tmp_path / "state", {0: again.state_dict()})
    again = begun()
    again.load_state_dict(load_checkpoint(tmp_path / "state")[0])
    again.epoch()
    assert again.kept_epoch == run.kept_epoch == 1
    assert scores_on_test(trainer, again) == scores_on_test(trainer, run)


def test_scoring_leaves_the_generators_where_they_were() -> None:
    recipe = recipe_of()
    trainer = trainer_for(Goal("val_mse"), recipe)
    run = trainer.start(recipe)
    while not run.done:
        run.epoch()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    scores_on_test(trainer, run)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_task_without_a_test_split_has_no_scores() -> None:
    recipe = recipe_of()
    task = Lively()
    trainer = Trainer(task, Goal("val_mse"), probe_task(task, recipe).terms, CPU)
    run = trainer.start(recipe)
    run.epoch()
    assert scores_on_test(trainer, run) is None


def test_a_split_made_apart_is_made_once_for_runs_of_the_same_data() -> None:
    made = []

    class Apart(Lively):
        def test_data(self, options: Any) -> Samples:
            made.append(options["noise"])
            found = self.data(options).validation
            assert isinstance(found, Samples)
            return found

    recipe, other = recipe_of(), recipe_of(seed=1)
    task = Apart()
    trainer = Trainer(task, Goal("val_mse"), probe_task(task, recipe).terms, CPU)
    assert made == []
    assert trainer.test_data(recipe) is trainer.test_data(other)
    assert made == [0.1]
