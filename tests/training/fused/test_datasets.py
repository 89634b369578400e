"""Groups on torch Datasets, read in this process or by others, which draw from generators that all threads share."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from fusing import Group, Regression, assert_close, held, plain, recipe_with, shown
from resuming import same_bits
from torch import Tensor
from torch.utils.data import Dataset

from tuner.recipe import Recipe
from tuner.tasks import Data

READ: list[int] = []
"""The samples that were read in this process."""


class Noisy(Dataset[Any]):
    """Rows, with noise from every global generator; slow enough for threads to meet."""

    def __init__(self, inputs: Tensor, targets: Tensor, pause: float) -> None:
        self.inputs, self.targets, self.pause = inputs, targets, pause
        self.busy = False

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        assert not self.busy, "asked by two threads at once"
        self.busy = True
        READ.append(index)
        noise = 0.1 * torch.randn(4)
        time.sleep(self.pause)
        noise += 0.1 * random.random() + 0.1 * float(np.random.rand())
        self.busy = False
        return self.inputs[index] + noise, self.targets[index]


class OfDatasets(Regression):
    data_options = {"num_workers": 0, "pause": 0.0}

    def data(self, options: Mapping[str, Any]) -> Data:
        found = super().data(options)
        pairs = ((part.inputs, part.targets) for part in (found.train, found.validation))  # type: ignore[union-attr]
        return Data(*(Noisy(*pair, options["pause"]) for pair in pairs))


def recipes(workers: int = 0, pause: float = 0.0) -> list[Recipe]:
    data = {"num_workers": workers, "pause": pause}
    names = ("Adam", "SGD", "NAdam")
    return [recipe_with(epochs=2, data=data, seed=n, data_seed=n // 2, optimizer=names[n % 3]) for n in range(6)]


@pytest.fixture(scope="module")
def expected() -> list[dict[str, Any]]:
    """Each of them alone, read in this process."""
    group = Group(OfDatasets(), recipes()[0])
    return [held(*group.train(group.start(recipe))) for recipe in recipes()]


def assert_met(group: Group, given: list[Recipe], expected: list[dict[str, Any]]) -> None:
    for number, (member, alone) in enumerate(zip(group.train(group.start(*given)), expected, strict=True)):
        found = held(member)
        assert [name for name in alone if not same_bits(found[name], alone[name])] == [], number


def test_as_torch_alone(expected: list[dict[str, Any]]) -> None:
    for recipe, alone in zip(recipes(), expected, strict=True):
        wanted = shown(plain(OfDatasets(), recipe))
        assert_close({name: alone[name] for name in wanted}, wanted, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("most", "threads"), [(None, 1), (2, 3)])
def test_whoever_else_is_there(expected: list[dict[str, Any]], most: int | None, threads: int) -> None:
    """Parts in several threads ask the same Datasets, for training and validation, and each gets its own noise."""
    given = recipes(pause=2e-4)
    assert_met(Group(OfDatasets(), given[0], most=most, threads=threads), given, expected)


@pytest.mark.slow
def test_read_by_other_processes(expected: list[dict[str, Any]]) -> None:
    given = recipes(workers=2)
    assert_met(Group(OfDatasets(), given[0], most=3, threads=2), given, expected)
    assert multiprocessing.active_children() == []


def test_samples_that_several_trials_see_are_read_once() -> None:
    given = [recipe_with(seed=seed, data={"num_workers": 0, "pause": 0.0}) for seed in range(5)]
    group = Group(OfDatasets(), given[0])
    members = group.start(*given)
    READ.clear()
    group.train(members, epochs=1)
    assert sorted(READ) == sorted([*range(40), *range(40)])
