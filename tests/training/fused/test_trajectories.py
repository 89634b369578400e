"""Trials that differ only in where they end are one training read at several points, and nobody can tell."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from fusing import Group, Lively, Regression, held, recipe_with
from resuming import same_bits

from tuner.recipe import EarlyStopping, Recipe, SchedulerConfigs
from tuner.training.checkpoints import load_checkpoint, save_checkpoint
from tuner.training.fused.member import Member
from tuner.training.fused.part import Part
from tuner.training.run import Goal

PLATEAU = {"scheduler": "ReduceLROnPlateau", "scheduler_kwargs": {"patience": 0}}
PATIENT, HASTY = (EarlyStopping(monitor="val_l1", patience=patience, min_delta=0.02) for patience in (3, 1))


def of_lengths(*epochs: int, **values: Any) -> list[Recipe]:
    return [recipe_with(**{"data": {"noise": 0.1}, "epochs": count, **values}) for count in epochs]


@pytest.fixture
def trained_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many trials each part had that trained a step."""
    counted: list[int] = []
    step = Part._step

    def counting(part: Part, batch: Any) -> None:
        counted.append(len(part.members))
        step(part, batch)

    monkeypatch.setattr(Part, "_step", counting)
    return counted


def assert_as_alone(group: Group, members: list[Member]) -> None:
    """What each holds is what it holds that never met another."""
    for member in members:
        found, alone = held(member), held(*group.train(group.start(member.recipe)))
        assert [name for name in alone if not same_bits(found[name], alone[name])] == [], member.recipe.epochs


SHARED: dict[str, list[Recipe]] = {
    "a constant rate": of_lengths(2, 5, 3),
    "steps down": of_lengths(2, 4, scheduler="StepLR", scheduler_kwargs={"step_size": 1}),
    "a plateau": of_lengths(4, 2, 3, **PLATEAU),
    "a cosine of a length that is given": of_lengths(
        2, 4, scheduler="CosineAnnealingLR", scheduler_kwargs={"T_max": 3}, optimizer="SGD"
    ),
    "torch's own optimizer": of_lengths(3, 2, optimizer="NAdam", lr_multipliers={"3.": 0.2}),
    "early stopping": [
        recipe_with(epochs=6, early_stopping=stopping, learning_rate=0.1, data={"noise": 0.1})
        for stopping in (None, PATIENT, HASTY)
    ],
}

APART: dict[str, list[Recipe]] = {
    "a cosine over the run": of_lengths(2, 4, scheduler="CosineAnnealingLR"),
    "a cosine over the run, in strides of many steps": of_lengths(
        4,
        8,
        scheduler="CosineAnnealingLR",
        scheduler_configs=SchedulerConfigs(interval="step", frequency=20),
    ),
    "one cycle over the run": of_lengths(
        2, 4, scheduler="OneCycleLR", scheduler_configs=SchedulerConfigs(interval="step")
    ),
    "a cycle of half the run": of_lengths(
        2, 4, scheduler="CyclicLR", scheduler_kwargs={"max_lr": 0.1, "step_size_up": "auto"}
    ),
    "a warm-up and a cosine within one": of_lengths(
        3,
        5,
        scheduler="SequentialLR",
        scheduler_kwargs={
            "schedulers": [
                {"scheduler": "LinearLR", "total_iters": 1},
                {"scheduler": "CosineAnnealingLR"},
            ],
            "milestones": [1],
        },
    ),
    "milestones at half and three quarters": of_lengths(
        2, 4, scheduler="MultiStepLR", scheduler_kwargs={"milestones": "auto"}
    ),
    "a timeline over the run": of_lengths(
        2, 4, timeline={"steps": 100, "keyframes": [{"STEP": 0, "noise": 0.0}, {"STEP": 100, "noise": 1.0}]}
    ),
    "another seed": [*of_lengths(3), *of_lengths(3, dropout_seed=1)],
}


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("value", ["best", "last"])
def test_one_training_gives_each_its_own_result(name: str, value: Any, trained_rows: list[int]) -> None:
    goal = Goal("val_l1", value=value)
    recipes = SHARED[name]
    group = Group(Lively(), recipes[0], goal)
    members = group.start(*recipes)
    trained_rows.clear()
    group.train(members)
    assert set(trained_rows) == {1}
    assert len(trained_rows) == 5 * max(member.epochs_done for member in members)
    assert_as_alone(group, members)


@pytest.mark.parametrize("name", APART)
def test_what_trains_differently_is_not_shared(name: str, trained_rows: list[int]) -> None:
    group = Group(Lively(), APART[name][0])
    members = group.start(*APART[name])
    trained_rows.clear()
    group.train(members, epochs=1)
    assert trained_rows == [2] * 5
    group.train(members)
    assert_as_alone(group, members)


def test_who_joins_late_trains_by_itself() -> None:
    """It is as far behind as it is, however equal its recipe."""
    short, long, other = *of_lengths(3, 6), *of_lengths(5, seed=1)
    group = Group(Lively(), short)
    first = group.start(short, other)
    group.train(first, epochs=2)
    late = group.start(long)
    group.train([*first, *late])
    assert_as_alone(group, [*first, *late])


def test_the_longest_may_leave_and_another_leads() -> None:
    """As when it is pruned."""
    recipes = of_lengths(9, 3, 4)
    group = Group(Lively(), recipes[0])
    members = group.start(*recipes)
    group.train(members, epochs=2)
    assert_as_alone(group, group.train(members[1:]))


def test_after_an_interruption_within_an_epoch_they_meet_again(tmp_path: Path, trained_rows: list[int]) -> None:
    """Only the one that trained has done the steps: the others do them, and then share again."""
    recipes = of_lengths(4, 2, 3)
    group = Group(Lively(), recipes[0])
    members = group.start(*recipes)
    group.train(members, epochs=1)
    members[0].followers = members[1:]
    part = Part([members[0]])
    part.build()
    part.take_steps(3)
    save_checkpoint(tmp_path / "state", {number: member.state_dict() for number, member in enumerate(members)})
    part.release()
    fresh = group.start(*recipes)
    for number, state in load_checkpoint(tmp_path / "state").items():
        fresh[number].load_state_dict(state)
    assert [member.step_number for member in fresh] == [3, 0, 0]
    trained_rows.clear()
    group.train(fresh)
    assert sorted(trained_rows) == [1] * (2 + 5 + 2 * 5)
    assert_as_alone(group, fresh)


def test_a_state_is_not_taken_while_its_owner_is_brought_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for from outside when the epoch ends, it waits: it has the epoch whole."""
    recipes = of_lengths(4, 2)
    group = Group(Lively(), recipes[0])
    members = group.start(*recipes)
    follow, states = Member.follow, []
    asking = threading.Thread(target=lambda: states.append(members[1].state_dict()))

    def slowly(member: Member, leader: Member) -> None:
        asking.start()
        asking.join(0.2)
        assert not states
        follow(member, leader)

    with monkeypatch.context() as patch:
        patch.setattr(Member, "follow", slowly)
        group.train(members, epochs=1)
    asking.join()
    (fresh,) = group.start(recipes[1])
    fresh.load_state_dict(states[0])
    assert fresh.epochs_done == 1
    assert_as_alone(group, group.train([fresh]))


def test_a_checkpoint_holds_what_they_share_once(tmp_path: Path) -> None:
    """The optimizer's numbers and the weights; what is each one's own stays so when they are loaded."""
    recipes = of_lengths(*range(2, 12))
    group = Group(Lively(), recipes[0])
    members = group.train(group.start(*recipes), epochs=1)
    sizes = []
    for count in (1, 10):
        path = tmp_path / f"{count}"
        save_checkpoint(path, {number: member.state_dict() for number, member in enumerate(members[:count])})
        sizes.append(path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], "little"))
    assert sizes[1] < 3 * sizes[0]
    states = load_checkpoint(tmp_path / "10")
    fresh = group.start(*recipes)
    for number, member in enumerate(fresh):
        member.load_state_dict(states[number])
    assert len({member.row.data_ptr() for member in fresh}) == 10


def test_time_is_counted_once() -> None:
    recipes = [recipe_with(epochs=count) for count in (2, 3, 4)]
    group = Group(Regression(), recipes[0])
    members = group.train(group.start(*recipes), epochs=1)
    seconds = [member.records[0].seconds for member in members]
    assert seconds[0] == seconds[1] == seconds[2] > 0
