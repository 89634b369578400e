"""A trial's bits depend on nothing but the trial: not on how many train with it, nor where, nor on what those do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from fusing import SMALL, Group, held, small, trained_in
from resuming import same_bits

from tuner.recipe import Recipe
from tuner.tasks import Task
from tuner.training.fused.member import Member

OPTIONS: list[dict[str, Any]] = [
    {"seed": 1, "learning_rate": 1e-2, "gradient_clip": 0.5},
    {"seed": 2, "optimizer": "SGD", "data_seed": 3, "dropout_seed": 4, "scheduler": "CosineAnnealingLR"},
    {"seed": 3, "optimizer": "NAdam", "data_seed": 5},
]
"""Of the trials that are looked at: one of each kind of update among them."""


def trials(name: str) -> tuple[Task, list[Recipe]]:
    task, recipe = small(name)
    return task, [Recipe.model_validate({**recipe.model_dump(), **options}) for options in OPTIONS]


def others(recipe: Recipe, count: int, **changed: Any) -> list[Recipe]:
    """Recipes that differ in all that may differ within a group."""
    names = ("Adam", "AdamW", "RMSprop", "SGD", "Adagrad")
    return [
        recipe.model_copy(
            update={
                "seed": 100 + number,
                "data_seed": number % 3,
                "dropout_seed": number,
                "optimizer": names[number % 5],
                "optimizer_kwargs": {"weight_decay": 0.01 * (number % 2)},
                "learning_rate": 1e-3 * (1 + number % 7),
                **changed,
            }
        )
        for number in range(count)
    ]


@dataclass(frozen=True)
class Case:
    """A group that knows its task, three trials, and all that each of them is when it trains alone."""

    group: Group
    recipes: list[Recipe]
    expected: list[dict[str, Any]]

    def assert_met(self, members: list[Member]) -> None:
        for member, expected in zip(members, self.expected, strict=True):
            found = held(member)
            assert [name for name in expected if not same_bits(found[name], expected[name])] == []


@pytest.fixture(params=sorted(SMALL), scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    task, recipes = trials(request.param)
    group = Group(task, recipes[0])
    return Case(group, recipes, [held(*group.train(group.start(recipe))) for recipe in recipes])


@pytest.mark.parametrize("count", [2, 7, pytest.param(33, marks=pytest.mark.slow)])
def test_in_a_part_of_any_size_and_at_any_place(case: Case, count: int) -> None:
    """In the first epoch before the others, in the second behind them."""
    members = case.group.start(*case.recipes)
    fill = case.group.start(*others(case.recipes[0], max(1, count - 3)))
    whole, rest = ([*members, *fill], []) if count > 2 else (members[:2], [members[2], *fill])
    for lots in ([whole, rest], [whole[::-1], rest[::-1]]):
        trained_in(lot for lot in lots if lot)
    case.assert_met(members)


@pytest.mark.parametrize(("most", "threads"), [(2, 1), (3, 2), (None, 4)])
def test_however_a_group_is_cut_and_on_any_number_of_threads(case: Case, most: int | None, threads: int) -> None:
    group = Group(case.group.training.trainer.task, case.recipes[0], most=most, threads=threads, like=case.group)
    members = group.start(*case.recipes, *others(case.recipes[0], 4))
    group.train(members)
    case.assert_met(members[:3])


def test_joining_when_others_are_ahead(case: Case) -> None:
    fill = case.group.start(*others(case.recipes[0], 3, epochs=4))
    trained_in([fill])
    late = case.group.start(*case.recipes)
    trained_in([[fill[0], *late, *fill[1:]]])
    trained_in([[*late, *fill]])
    case.assert_met(late)
    assert [member.epochs_done for member in fill] == [3, 3, 3]


def test_beside_trials_that_leave_and_trials_that_diverge(case: Case) -> None:
    """One is gone after an epoch, as pruned ones are; another's weights are no numbers from its first step on."""
    members = case.group.start(*case.recipes)
    leaving = case.group.start(*others(case.recipes[0], 2))
    (wild,) = case.group.start(*others(case.recipes[0], 1, learning_rate=1e30))
    trained_in([[leaving[0], *members[:2], wild, members[2], leaving[1]]])
    assert wild.diverged
    trained_in([[wild, *members]])
    case.assert_met(members)
