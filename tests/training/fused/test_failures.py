"""What goes wrong in a group goes wrong for the trial whose it is; what the machine lacks shows in no result."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from fusing import Group, Lively, Regression, held, recipe_with
from resuming import disturb, same_bits
from torch import Tensor, nn

from tuner.recipe import EarlyStopping, Recipe
from tuner.tasks import Batch, Mean, Samples
from tuner.training.fused.member import Member
from tuner.training.fused.part import Part
from tuner.training.fused.program import Program

SHAKEN = {
    "keyframes": [
        {"STEP": 0, "noise": 0.2},
        {"STEP": 2, "ACTION": "mark, shake", "noise": 0.2},
        {"STEP": 7, "ACTION": "mark, shake", "noise": 0.2},
    ]
}

MEMORY = torch.OutOfMemoryError("CUDA out of memory")


def lively(count: int) -> list[Recipe]:
    names = ("Adam", "SGD", "NAdam")
    return [recipe_with(seed=n, optimizer=names[n % 3], timeline=SHAKEN, data={"noise": 0.0}) for n in range(count)]


def assert_same(members: list[Member], expected: list[dict[str, Any]]) -> None:
    for number, (member, whole) in enumerate(zip(members, expected, strict=True)):
        found = held(member)
        assert [name for name in whole if not same_bits(found[name], whole[name])] == [], number


class TestMemory:
    """Too little of it for more than three trials at once."""

    @pytest.fixture
    def whole(self) -> list[dict[str, Any]]:
        return [held(member) for member in self.train()]

    def train(self, recipes: list[Recipe] | None = None) -> list[Member]:
        recipes = recipes or lively(7)
        group = Group(Lively(), recipes[0])
        return group.train(group.start(*recipes))

    def test_runs_out_in_a_step(self, whole, monkeypatch: pytest.MonkeyPatch) -> None:
        train, refused = Program.train, []

        def scarce(program: Program, weights: Tensor, *rest: Any) -> Any:
            if len(weights) > 3:
                refused.append(len(weights))
                raise MEMORY
            return train(program, weights, *rest)

        monkeypatch.setattr(Program, "train", scarce)
        assert_same(self.train(), whole)
        assert refused == [7, 4]  # what has been too much is not tried again

    def test_runs_out_behind_an_action(self, whole, monkeypatch: pytest.MonkeyPatch) -> None:
        """The step is tried again, and its actions must not fire again."""
        train, refused = Program.train, []

        def scarce(program: Program, weights: Tensor, gradients: Tensor, others: Any, state: Any, *rest: Any) -> Any:
            if len(weights) > 3 and bool(state["marks"].any()):
                refused.append(len(weights))
                raise MEMORY
            return train(program, weights, gradients, others, state, *rest)

        monkeypatch.setattr(Program, "train", scarce)
        assert_same(self.train(), whole)
        assert refused

    @pytest.mark.parametrize("method", ["build", "validated"])
    def test_runs_out_before_or_behind_the_steps(self, whole, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        does, refused = getattr(Part, method), []

        def scarce(part: Part, *arguments: Any, **options: Any) -> Any:
            if len(part.members) > 3:
                refused.append(len(part.members))
                raise MEMORY
            return does(part, *arguments, **options)

        monkeypatch.setattr(Part, method, scarce)
        assert_same(self.train(), whole)
        assert refused

    def test_is_too_little_for_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        group = Group(Lively(), lively(1)[0])
        members = group.start(*lively(3))
        monkeypatch.setattr(Part, "build", lambda part: (_ for _ in ()).throw(MEMORY))
        assert group.training.epoch(members) == [MEMORY] * 3

    def test_runs_out_when_half_is_updated(self, whole, monkeypatch: pytest.MonkeyPatch) -> None:
        """Then a part's members are of no use, and begin again elsewhere; those of other parts know nothing of it."""
        recipes = lively(7)
        group = Group(Lively(), recipes[0], most=4)
        members, step = group.start(*recipes), Part._trace

        def scarce(part: Part, *arguments: Any) -> None:
            if members[0] in part.members:
                raise MEMORY
            step(part, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Part, "_trace", scarce)
            ended = group.training.epoch(members)
        failed = [member for member, found in zip(members, ended, strict=True) if found is MEMORY]
        assert members[0] in failed
        assert 0 < len(failed) <= 4
        members = [member if member not in failed else group.start(member.recipe)[0] for member in members]
        group.train([member for member in members if not member.epochs_done], epochs=1)
        assert_same(group.train(members), whole)


class Faulty(Regression):
    """Goes wrong for some trials, at different places."""

    actions = ("break",)

    def batch(self, data: Samples, index: Tensor, properties: Mapping[str, Any], generator: torch.Generator) -> Batch:
        if properties["phase"] == "broken":
            raise RuntimeError("no such batch")
        return data.rows(index)

    def on_action(self, name: str, model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if bool(model[0].weight.max() > 1e6):  # type: ignore[index]
            raise RuntimeError("cannot act")
        return {}

    def metrics(self, output: Tensor, batch: Batch) -> dict[str, Mean]:
        return {"small": Mean.of(output, where=output.abs() < 1e3)}

    def derived(self, averages: Mapping[str, float]) -> dict[str, float]:
        if averages["mse"] > 1e6:
            raise ArithmeticError("no such measure")
        return {}


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a batch": ({"timeline": {"keyframes": [{"STEP": 0}, {"STEP": 7, "PHASE": "broken"}]}}, "no such batch"),
    "an action": (
        {
            "learning_rate": 1e9,
            "optimizer": "SGD",
            "gradient_clip": 1.0,
            "timeline": {"keyframes": [{"STEP": 0}, {"STEP": 2, "ACTION": "break"}]},
        },
        "cannot act",
    ),
    "a measure": ({"learning_rate": 1e5}, "no such measure"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_one_trial_is_its_own(name: str) -> None:
    """The others get their epochs, each once."""
    good = [recipe_with(seed=seed) for seed in range(4)]
    group = Group(Faulty(), good[0])
    expected = [held(member) for member in group.train(group.start(*good))]
    values, message = FAULTS[name]
    (bad,) = group.start(recipe_with(**values))
    members, failures = group.start(*good), []
    flying = [*members[:2], bad, *members[2:]]
    while not all(member.done for member in members):
        epoch = members[0].epochs_done + 1
        for member, ended in zip(flying, group.training.epoch(flying), strict=True):
            if isinstance(ended, BaseException):
                failures.append((member, str(ended)))
            else:
                assert [record.epoch for record in ended] == [epoch]
        flying = [member for member in flying if member not in [failed for failed, _ in failures]]
    assert [member for member, _ in failures] == [bad]
    assert message in failures[0][1]
    assert_same(members, expected)


def test_a_monitored_value_that_is_missing_fails_that_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else asks for it: a mean of nothing is not recorded."""

    class Sparse(Regression):
        def metrics(self, output: Tensor, batch: Batch) -> dict[str, Mean]:
            return {"small": Mean.of(output, where=output.abs() < 0)}

    stopping = EarlyStopping(monitor="val_small", mode="max")
    recipes = [recipe_with(), recipe_with(early_stopping=stopping), recipe_with(seed=1)]
    group = Group(Sparse(), recipes[0])
    members = group.start(*recipes)
    ended = group.training.epoch(members)
    assert [isinstance(found, Exception) for found in ended] == [False, True, False]
    assert "no sample of this epoch counts" in str(ended[1])


class Exits(Regression):
    """A batch of it ends the program, as a user's code may."""

    def batch(self, data: Samples, index: Tensor, properties: Mapping[str, Any], generator: torch.Generator) -> Batch:
        if properties["phase"] == "out":
            raise SystemExit(3)
        return data.rows(index)


def test_an_exit_is_a_failure_too() -> None:
    recipes = [recipe_with(), recipe_with(timeline={"keyframes": [{"STEP": 0, "PHASE": "out"}]})]
    group = Group(Exits(), recipes[0])
    ended = group.training.epoch(group.start(*recipes))
    assert isinstance(ended[1], SystemExit)
    assert not isinstance(ended[0], BaseException)


def generators() -> tuple[Any, ...]:
    return random.getstate(), repr(np.random.get_state()), torch.default_generator.get_state().tolist()


class HaltError(Exception):
    """As a signal's, or a lost lease's."""


@pytest.mark.parametrize(("threads", "calls"), [(1, 2), (3, 5)])
def test_a_stop_ends_the_epoch_within_a_step_and_loses_nothing(monkeypatch, threads: int, calls: int) -> None:
    recipes = lively(6)
    group = Group(Lively(), recipes[0], most=2, threads=threads)
    expected = [held(member) for member in group.train(group.start(*recipes))]
    members, before = group.start(*recipes), set(threading.enumerate())
    disturb(5)
    stood, steps, halted = generators(), [0], threading.Event()

    def halt(asked: list[int] = [0]) -> None:  # noqa: B006
        asked[0] += 1
        if asked[0] == calls:
            halted.set()
            raise HaltError

    step = Part._step

    def counting(part: Part, batch: Any) -> None:
        steps[0] += halted.is_set()
        step(part, batch)

    monkeypatch.setattr(Part, "_step", counting)
    monkeypatch.setattr("tuner.training.fused.training.POLL_SECONDS", 1e-3)
    with pytest.raises(HaltError):
        group.training.epoch(members, halt)
    assert steps[0] <= threads
    assert set(threading.enumerate()) == before
    assert torch.get_num_threads() == threads
    assert generators() == stood
    assert {member.part for member in members} == {None}
    copies = group.start(*recipes)
    for copy, member in zip(copies, members, strict=True):
        copy.load_state_dict(member.state_dict())
    for going_on in (members, copies):
        behind = [member for member in going_on if not member.epochs_done]
        group.train(behind, epochs=1)
        assert_same(group.train(going_on), expected)
    assert torch.get_num_threads() == threads
    assert generators() == stood


def test_a_member_trained_by_itself_can_be_stopped_too() -> None:
    """As a trial that fails and is tried again is."""
    group = Group(Regression(), recipe_with())

    def halt() -> None:
        raise HaltError

    member = group.training.start(recipe_with(), halt)
    with pytest.raises(HaltError):
        member.epoch()


def test_results_and_generators_do_not_depend_on_where_the_generators_stood() -> None:
    recipes = lively(3)
    found = []
    for seed in (1, 2):
        disturb(seed)
        stood = generators()
        group = Group(Lively(), recipes[0], threads=2)
        found.append([held(member) for member in group.train(group.start(*recipes))])
        assert generators() == stood
    assert same_bits(*found)
