"""What models and tasks keep in Python is shared by all trials of a group, so it may not change."""

from __future__ import annotations

import random
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from fusing import Regression
from odd import Doing, With, assert_refused, assert_trained_as_alone, small_net
from torch import Tensor, nn

from tuner.tasks import Batch


def counted(kept: Any) -> Any:
    """A change of the model's `kept`, and whether it has come to a number that two steps do not come to."""

    def count(model: Any, x: Tensor) -> Tensor:
        if model.training:
            kept(model)
        return x

    return count


def in_a_dict(model: Any) -> None:
    model.kept["n"] += 1


def in_a_namespace(model: Any) -> None:
    model.kept.n += 1


def in_an_array(model: Any) -> None:
    model.kept += 1


def in_a_part(model: Any) -> None:
    model.kept[0] += 1


def drawn(model: Any) -> None:
    model.kept.random()


KEPT: dict[str, tuple[Any, Any]] = {
    "dict": (in_a_dict, lambda: {"n": 0}),
    "namespace": (in_a_namespace, lambda: types.SimpleNamespace(n=0)),
    "array": (in_an_array, lambda: np.zeros(1)),
    "tensor": (in_an_array, lambda: torch.zeros(1)),
    "part of a tensor": (in_a_part, lambda: torch.zeros(2)),
    "numpy's generator": (drawn, lambda: np.random.default_rng(2)),
    "python's generator": (drawn, lambda: random.Random(1)),
}


@pytest.mark.parametrize("name", KEPT)
def test_models_that_keep_something(name: str) -> None:
    change, make = KEPT[name]
    assert_refused(lambda: With(lambda: Doing(counted(change), kept=make())), "neither parameter nor buffer: kept")


def counts_what_it_predicts(model: Any, x: Tensor) -> Tensor:
    if not model.training:
        model.seen.add_(len(x))
    return x


def test_models_whose_buffers_change_in_validation() -> None:
    assert_refused(lambda: With(lambda: Doing(counts_what_it_predicts)), "changes a buffer in validation")


class Keeping(Regression):
    """Keeps the noise of its batches, by which it weighs the loss."""

    def __init__(self) -> None:
        self.noise = 0.0

    def batch(self, data: Any, index: Tensor, properties: Mapping[str, Any], generator: torch.Generator) -> Batch:
        self.noise = properties.get("noise", 0.0)
        return super().batch(data, index, properties, generator)


class Counting(Regression):
    """Counts its losses in a list."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.seen.append(1)
        return super().losses(output, batch, state)


class Staged(Regression):
    """An action changes an attribute of the model."""

    actions = ("act",)

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        return small_net(nn.Dropout(0.0))

    def on_action(self, name: str, model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        model.stage = 1
        return {}


class Evaluating(Staged):
    def on_action(self, name: str, model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        model.eval()
        return {}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Keeping, "keeps what a step needs on itself: noise"),
        (Counting, "keeps something on itself"),
        (Staged, "its action 'act' changes what is neither parameter nor buffer: stage"),
        (Evaluating, "its action 'act' changes what is neither parameter nor buffer: .*training"),
    ],
)
def test_tasks_that_keep_something(make: Any, reason: str) -> None:
    assert_refused(make, reason)


class Large(torch.autograd.Function):
    """Whether any number is large, found out by NumPy: 1 or 0 for each trial."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.from_numpy(np.array(float(np.abs(x.numpy()).max() > 0.8), dtype=np.float32))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """It has no gradient."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> None:
        return None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor) -> tuple[Tensor, int]:
        return torch.stack([Large.forward(row) for row in x.movedim(in_dims[0], 0)]), 0


class Reading(Regression):
    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = super().losses(output, batch, state)
        large: Tensor = Large.apply(output.detach())
        return {**found, "mse": found["mse"] * (1 - 0.9 * large)}


def test_numbers_that_leave_torch_are_read_at_every_step() -> None:
    """The loss changes when the model has learnt for a while."""
    assert_trained_as_alone(Reading)
