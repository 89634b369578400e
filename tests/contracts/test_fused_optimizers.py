"""Every optimizer of torch trains a trial in a group as it trains it alone: plain, in parts, on two terms, clipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fusing import Group, Matrices, Regression, assert_close, held, in_double, plain, recipe_with, shown, trained
from resuming import same_bits

from tuner import optimizers
from tuner.optimizers.by_torch import why_not
from tuner.optimizers.options import numeric_options
from tuner.recipe import Recipe, SchedulerConfigs
from tuner.tasks import Task

NAMES = sorted(name for name in optimizers.names() if not why_not(name))

PARTS = {"3.": 0.25}

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "in parts": {"lr_multipliers": PARTS, "seed": 1},
    "clipped, on two terms": {"gradient_clip": 0.05, "loss_weights": {"mse": 2.0, "l1": 0.5}, "data_seed": 1},
    "along a cosine": {"scheduler": "CosineAnnealingLR", "scheduler_configs": SchedulerConfigs(interval="step")},
    "decayed": {"optimizer_kwargs": {"weight_decay": 0.2}},
}
"""How they train, all in one group."""


def case(name: str) -> tuple[Task, dict[str, Recipe]]:
    decays = "weight_decay" in numeric_options(name)
    ways = {way: values for way, values in WAYS.items() if decays or way != "decayed"}
    task = Matrices() if name == "Muon" else Regression()
    return task, {way: recipe_with(optimizer=name, learning_rate=0.02, **values) for way, values in ways.items()}


def other_kinds() -> list[Recipe]:
    """What stands beside them: rules on rows, and torch's own."""
    return [recipe_with(optimizer=name, seed=9) for name in ("Adam", "SGD", "Adagrad", "Adamax")]


def test_those_that_cannot_are_named() -> None:
    assert set(optimizers.names()) - set(NAMES) == {"LBFGS", "SparseAdam"}


@pytest.mark.parametrize("name", NAMES)
def test_as_torch_alone(name: str) -> None:
    """In float64; Muon turns its matrices around in bfloat16, in which the last bit is the eighth."""
    task, recipes = case(name)
    near = {"rel": 0.05, "abs": 0.02} if name == "Muon" else {"rel": 1e-5, "abs": 1e-6}
    for way, member in zip(recipes, trained(in_double(task), *recipes.values()), strict=True):
        run = plain(in_double(task), member.recipe)
        assert_close(shown(member), shown(run), **near, place=way)
        if name != "Muon":
            assert_close(member.weights_now(), run.weights_now(), rel=1e-9, abs=1e-10, place=way)


@pytest.mark.parametrize("name", NAMES)
def test_whoever_else_is_there_and_however_often_it_is_ended(name: str, tmp_path: Path) -> None:
    """Alone without a break, against a group that is cut off after one, two, and all steps, and goes on from a file."""
    task, by_way = case(name)
    recipes = [*by_way.values()]
    group = Group(task, recipes[0])
    expected = [held(*group.train(group.start(recipe))) for recipe in recipes]
    everyone = [*recipes, *(recipe for recipe in other_kinds() if name != "Muon")]
    members = group.start(*everyone)
    for steps in (1, 2, 5):
        group.cut_off(members, steps)
        members = group.through_a_file(members, tmp_path)
        group.train(members, epochs=1)
    for way, member, alone in zip(by_way, members, expected, strict=False):
        found = held(member)
        assert [key for key in alone if not same_bits(found[key], alone[key])] == [], way
