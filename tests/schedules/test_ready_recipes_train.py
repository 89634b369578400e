"""The recipes that come ready: each trains digits, and its rate follows the formula that its file promises."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from tuner import optimizers, schedules
from tuner.recipe import Recipe, parse_recipe
from tuner.search_space.file import bundled_folder
from tuner.search_space.yaml_file import read_yaml
from tuner.tasks import load_task
from tuner.training.plain import PlainRun
from tuner.training.run import Goal
from tuner.training.trainer import Trainer, train

EPOCHS = 3
FILES = sorted((bundled_folder() / "recipes").glob("*.yaml"))
NAMES = [path.stem for path in FILES]


def recipe(name: str, **values: object) -> Recipe:
    path = bundled_folder() / "recipes" / f"{name}.yaml"
    return parse_recipe({**read_yaml(path), **values}, str(path)).with_defaults()


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    task = load_task("digits")
    return Trainer(task, Goal("val_accuracy", maximize=True), ("cross_entropy",), torch.device("cpu"))


def trained(trainer: Trainer, name: str) -> PlainRun:
    options = {**trainer.task.model_options, "channels": 8, "timesteps": 2}
    run = trainer.start(recipe(name, epochs=EPOCHS, model=options))
    train(run)
    return run


def warmup_cosine(epoch: int, step: int, total: int) -> float:
    if epoch < 2:
        return 1e-4 + (1e-3 - 1e-4) * epoch / 2
    return 1e-6 + (1e-3 - 1e-6) / 2 * (1 + math.cos(math.pi * (epoch - 2) / (EPOCHS - 2)))


def two_steps_down(epoch: int, step: int, total: int) -> float:
    """After 1 and 2 of 3 epochs: half and three quarters of them, rounded down."""
    return 0.1 * 0.1**epoch


def one_cycle(epoch: int, step: int, total: int) -> float:
    """Up from a 25th by half a cosine over 0.3 of all steps, then down to a 250,000th."""
    top, ends = 0.1, (0.1 / 25, 0.1 / 25 / 1e4)
    up, down = 0.3 * total - 1, total - 1
    start, end, share = (ends[0], top, step / up) if step <= up else (top, ends[1], (step - up) / (down - up))
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


CLOSED_FORMS: dict[str, Callable[[int, int, int], float]] = {
    "adamw-warmup-cosine": warmup_cosine,
    "sgd-multistep": two_steps_down,
    "adam-plateau": lambda epoch, step, total: 1e-3,
    "sgd-onecycle": one_cycle,
}


def test_four_recipes_come_ready() -> None:
    assert set(NAMES) == set(CLOSED_FORMS)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_to_read_digits_at_the_rates_it_promises(name: str, trainer: Trainer) -> None:
    run = trained(trainer, name)
    total = EPOCHS * run.steps_per_epoch
    rates = run.series.array()[:, run.series.columns.index("learning_rate")]
    expected = [CLOSED_FORMS[name](step // run.steps_per_epoch, step, total) for step in range(total)]
    assert rates.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    losses = [record.values["val_loss"] for record in run.records]
    assert losses[-1] < min(losses[0], math.log(10))  # better than at first, and than guessing


@pytest.mark.parametrize("name", NAMES)
def test_its_options_are_right_and_overwrite_nothing_that_it_gives(name: str) -> None:
    given = read_yaml(bundled_folder() / "recipes" / f"{name}.yaml")
    options, kwargs = given["scheduler_kwargs"], given.get("optimizer_kwargs", {})
    schedules.check(given["scheduler"], options, str, options)
    optimizers.check(given["optimizer"], kwargs, str, kwargs)
    taken = schedules.overwrites(given["scheduler"], options)
    assert not {"learning_rate", *(f"optimizer_kwargs.{option}" for option in kwargs)} & taken.keys()
    assert not {"task", "model", "data", "epochs"} & given.keys()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("epochs", [10, 15, 100])
def test_it_changes_the_rate_in_runs_of_usual_length(name: str, epochs: int) -> None:
    ready = recipe(name)
    model = torch.nn.Linear(2, 2)
    optimizer = optimizers.build(ready.optimizer, model, ready.learning_rate, ready.optimizer_kwargs)
    configs = ready.scheduler_configs
    assert schedules.why_constant(ready.scheduler, optimizer, ready.scheduler_kwargs, configs, epochs, 20) is None


def test_the_plateau_recipe_halves_the_rate_after_six_epochs_without_improvement() -> None:
    ready = recipe("adam-plateau", epochs=12)
    optimizer = optimizers.build(ready.optimizer, torch.nn.Linear(2, 2), ready.learning_rate, {})
    scheduler = schedules.build(
        ready.scheduler, optimizer, ready.scheduler_kwargs, ready.scheduler_configs, ready.epochs, 20
    )
    rates = []
    for _ in range(ready.epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(1.0)
    assert rates == [1e-3] * 7 + [5e-4] * 5
