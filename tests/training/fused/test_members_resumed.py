"""A member that goes on from a file, wherever its epoch was cut, ends with the bits of one that was never cut."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import pytest
from fusing import Group, Lively, held, plain, recipe_with, small
from resuming import same_bits

from tuner.recipe import EarlyStopping, Recipe, SchedulerConfigs
from tuner.tasks import Task
from tuner.training.fused.member import Member
from tuner.training.fused.part import Part

TIMELINE = {
    "keyframes": [
        {"STEP": 0, "noise": 0.1, "learning_rate": 0.05, "ACTION": "mark"},
        {"STEP": 5, "PHASE": "turned", "ACTION": "shake", "noise": 0.3, "mse": 1.0},
        {"STEP": 8, "ACTION": "shake, mark", "learning_rate": 0.02, "mse": 0.5},
    ]
}


def lively() -> tuple[Task, list[Recipe]]:
    """Everything that has a state to lose: moments, schedulers, plateaus, early stopping, actions, traces."""
    stopping = EarlyStopping(monitor="val_mse", patience=1)
    ways: list[dict[str, Any]] = [
        {"early_stopping": stopping, "scheduler": "ReduceLROnPlateau", "scheduler_kwargs": {"patience": 0}},
        {"optimizer": "SGD", "scheduler": "OneCycleLR", "scheduler_configs": SchedulerConfigs(interval="step")},
        {"optimizer": "NAdam", "lr_multipliers": {"3.": 0.1}, "gradient_clip": 0.5, "scheduler": "StepLR"},
        {"optimizer": "Adafactor", "seed": 3, "scheduler": "CosineAnnealingWarmRestarts"},
        {"timeline": TIMELINE, "optimizer": "AdamW"},
    ]
    ways[2]["scheduler_kwargs"] = {"step_size": 1}
    return Lively(), [recipe_with(**{"data": {"noise": 0.2}, **way}) for way in ways]


def assert_same(members: list[Member], expected: list[dict[str, Any]]) -> None:
    for number, (member, whole) in enumerate(zip(members, expected, strict=True)):
        found = held(member)
        assert [name for name in whole if not same_bits(found[name], whole[name])] == [], number


@pytest.mark.parametrize("steps", range(6))
def test_after_any_number_of_steps_of_any_epoch(steps: int, tmp_path: Path) -> None:
    """Five steps are an epoch less its validation."""
    task, recipes = lively()
    group = Group(task, recipes[0])
    expected = [held(member) for member in group.train(group.start(*recipes))]
    members = group.start(*recipes)
    for _ in range(3):
        group.cut_off(members, steps)
        members = group.through_a_file(members, tmp_path)
        group.train(members, epochs=1)
    assert_same(members, expected)


@pytest.mark.parametrize("name", ["digits", "denoise", "arc", "colors"])
def test_of_bundled_tasks_with_dropout_and_batch_norm(name: str, tmp_path: Path) -> None:
    task, recipe = small(name)
    recipes = [recipe.model_copy(update={"seed": seed, "dropout_seed": seed}) for seed in range(3)]
    group = Group(task, recipe)
    expected = [held(member) for member in group.train(group.start(*recipes))]
    members = group.start(*recipes)
    group.train(members, epochs=1)
    group.cut_off(members[:2], 1)
    members = group.through_a_file(members, tmp_path)
    assert [member.step_number for member in members] == [1, 1, 0]
    assert_same(group.train(members), expected)


def test_a_state_taken_while_others_train_is_of_one_step(tmp_path: Path) -> None:
    """Taken again and again from outside while the group trains: from each of them it ends the same."""
    task, recipes = lively()
    group = Group(task, recipes[0])
    expected = [held(member) for member in group.train(group.start(*recipes))]
    members, states = group.start(*recipes), []

    def take() -> None:
        states.append(copy.deepcopy([member.state_dict() for member in members]))

    while not all(member.done for member in members):
        group.training.epoch([member for member in members if not member.done], take)
    assert_same(members, expected)
    for taken in states:
        fresh = group.start(*recipes)
        for member, state in zip(fresh, taken, strict=True):
            member.load_state_dict(state)
        assert_same(group.train(fresh), expected)


def test_a_state_waits_for_the_step_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    task, recipes = lively()
    group = Group(task, recipes[0])
    members = group.start(*recipes)
    states: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: states.append(members[0].state_dict()))
    count, trace = [0], Part._trace

    def slowly(part: Part, *arguments: Any) -> None:
        count[0] += 1
        if count[0] == 3:
            asking.start()
            asking.join(0.2)
            assert not states
        trace(part, *arguments)

    monkeypatch.setattr(Part, "_trace", slowly)
    group.train(members, epochs=1)
    asking.join()
    (fresh,) = group.start(recipes[0])
    fresh.load_state_dict(states[0])
    if not fresh.epochs_done:
        assert fresh.step_number >= 3
        group.train([fresh], epochs=1)
    assert same_bits(held(fresh), held(members[0]))


def test_a_state_of_another_shape_is_refused() -> None:
    small_task, recipe = small("colors")
    other = small("colors", model={"hidden": 8})[1]
    group = Group(small_task, recipe)
    (one,), (two,) = group.start(recipe), group.start(other)
    with pytest.raises(ValueError, match="trainable numbers, not"):
        two.load_state_dict(one.state_dict())


def test_what_a_member_holds_is_what_torch_would(tmp_path: Path) -> None:
    """Names and shapes of the weights are those of the model's own state_dict, whatever order they train in."""
    task, recipe = small("denoise", epochs=1)
    group = Group(task, recipe)
    (member,) = group.train(group.start(recipe))
    weights, expected = member.weights_now(), plain(task, recipe).weights_now()
    assert [(name, entry.shape, entry.dtype) for name, entry in weights.items()] == [
        (name, entry.shape, entry.dtype) for name, entry in expected.items()
    ]
