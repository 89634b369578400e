"""Every optimizer of torch trains a trial in a group as it trains it alone: plain, in parts, on two terms, clipped."""

from __future__ import annotations

from typing import Any

import pytest
from fusing import Group, Matrices, Regression, assert_close, held, in_double, plain, recipe_with, shown
from resuming import same_bits

from tuner import optimizers
from tuner.optimizers.by_torch import why_not
from tuner.optimizers.options import numeric_options
from tuner.recipe import SchedulerConfigs
from tuner.tasks import Task
from tuner.training.fused.member import Member

NAMES = sorted(name for name in optimizers.names() if not why_not(name))

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "in parts": {"lr_multipliers": {"3.": 0.25}, "seed": 1},
    "clipped, on two terms": {"gradient_clip": 0.05, "loss_weights": {"mse": 2.0, "l1": 0.5}, "data_seed": 1},
    "along a cosine": {"scheduler": "CosineAnnealingLR", "scheduler_configs": SchedulerConfigs(interval="step")},
    "decayed": {"optimizer_kwargs": {"weight_decay": 0.2}},
}

KEYS = [(name, way) for name in NAMES for way in WAYS if way != "decayed" or "weight_decay" in numeric_options(name)]

Groups = dict[str, tuple[Group, dict[tuple[str, str], Member]]]


def groups(exact: bool) -> Groups:
    """All of them in one group, before the first step, and those of Muon, which takes only matrices, in another."""
    found: Groups = {}
    for kind, task in (("Muon", Matrices()), ("", Regression())):
        keys = [key for key in KEYS if (key[0] == "Muon") == (kind == "Muon")]
        recipes = [recipe_with(optimizer=name, learning_rate=0.02, **WAYS[way]) for name, way in keys]
        group = Group(in_double(task) if exact else task, recipes[0])
        found[kind] = group, dict(zip(keys, group.start(*recipes), strict=True))
    return found


@pytest.fixture(scope="module")
def in_full() -> dict[tuple[str, str], Member]:
    """Trained in float64."""
    members = {}
    for group, started in groups(exact=True).values():
        group.train([*started.values()])
        members |= started
    return members


@pytest.fixture(scope="module")
def in_pieces(tmp_path_factory: pytest.TempPathFactory) -> Groups:
    """Trained in float32, cut off after one, two, and all steps of an epoch, to go on from a file."""
    found: Groups = {}
    for kind, (group, started) in groups(exact=False).items():
        members = [*started.values()]
        for steps in (1, 2, 5):
            group.cut_off(members, steps)
            members = group.through_a_file(members, tmp_path_factory.mktemp("states"))
            group.train(members, epochs=1)
        found[kind] = group, dict(zip(started, members, strict=True))
    return found


def test_those_that_cannot_are_named() -> None:
    assert set(optimizers.names()) - set(NAMES) == {"LBFGS", "SparseAdam"}


@pytest.mark.parametrize("name", NAMES)
def test_as_torch_alone(in_full: dict[tuple[str, str], Member], name: str) -> None:
    """In float64; but Muon turns its matrices around in bfloat16, in which the last bit is the eighth."""
    task: Task = Matrices() if name == "Muon" else Regression()
    near = {"rel": 0.05, "abs": 0.02} if name == "Muon" else {"rel": 1e-5, "abs": 1e-6}
    for (_, way), member in ((key, member) for key, member in in_full.items() if key[0] == name):
        run = plain(in_double(task), member.recipe)
        assert_close(shown(member), shown(run), **near, place=way)
        if name != "Muon":
            assert_close(member.weights_now(), run.weights_now(), rel=1e-9, abs=1e-10, place=way)


@pytest.mark.parametrize("name", NAMES)
def test_whoever_else_is_there_and_however_often_it_is_ended(in_pieces: Groups, name: str) -> None:
    """As alone and without a break, to the last bit."""
    group, members = in_pieces["Muon" if name == "Muon" else ""]
    for way in ("in parts", "clipped, on two terms"):
        found = held(members[name, way])
        alone = held(*group.train(group.start(members[name, way].recipe)))
        assert [key for key in alone if not same_bits(found[key], alone[key])] == [], way
