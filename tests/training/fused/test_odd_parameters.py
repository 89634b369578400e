"""Parameters that are frozen, tied, idle, of two types, or reached by some losses only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from fusing import Group, Regression, recipe_with
from odd import Make, With, assert_refused, assert_trained_as_alone, small_net
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tuner.tasks import Batch

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")


def with_idle() -> nn.Module:
    net = small_net()
    net.register_parameter("idle", nn.Parameter(torch.ones(3)))
    return net


def with_frozen() -> nn.Module:
    net = small_net()
    net[0].requires_grad_(False)
    return net


def with_tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 1), nn.Flatten(0))
    net[2].weight = net[0].weight  # type: ignore[assignment]
    return net


def with_hook() -> nn.Module:
    net = small_net()
    net[0].weight.register_hook(lambda gradient: gradient * 0.5)  # type: ignore[operator]
    return net


def parametrized(by: Callable[..., Any]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        net = small_net()
        by(net[0])
        return net

    return make


class OfTwoTypes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 1).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).double()).squeeze(1).float()  # type: ignore[no-any-return]


class Heads(nn.Module):
    """Each loss term has a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 1), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x).tanh()
        return self.one(hidden).squeeze(1), self.two(hidden).squeeze(1)


class TwoHeads(Regression):
    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        return Heads()

    def losses(self, output: Any, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"mse": (output[0] - batch.targets) ** 2, "l1": (output[1] - batch.targets).abs()}


class Spotless(Regression):
    """The gradient of its second term is NaN, its value is not."""

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"mse": (output - batch.targets) ** 2, "l1": (output - output.detach()).abs().sqrt()}


class Endless(Regression):
    """The value of its second term is infinite."""

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"mse": (output - batch.targets) ** 2, "l1": (output - batch.targets).abs() / 0}


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(torch.complex64) @ self.weight).abs()


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1)


TRAINED: dict[str, Make] = {
    "a parameter that does nothing": lambda: With(with_idle),
    "frozen parameters": lambda: With(with_frozen),
    "tied weights": lambda: With(with_tied),
    "a weight of norm and direction": lambda: With(parametrized(parametrizations.weight_norm)),
    "an orthogonal weight": lambda: With(parametrized(parametrizations.orthogonal)),
    "a head for each loss": TwoHeads,
    "a term without gradient": Spotless,
    "a term without end": Endless,
}

REFUSED: dict[str, tuple[Make, str]] = {
    "two types": (lambda: With(OfTwoTypes), r"must be of one type, and are of torch\.float32, torch\.float64"),
    "complex numbers": (lambda: With(Complex), "complex|real"),
    "no parameters": (lambda: With(Nothing), "must be of one type, and are of none"),
    "a gradient hook": (lambda: With(with_hook), "gradient hooks"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_trained_as_alone(name: str) -> None:
    assert_trained_as_alone(TRAINED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence(name: str) -> None:
    assert_refused(*REFUSED[name])


def test_refused_where_parameters_come_and_go_with_the_losses() -> None:
    """torch's optimizers begin to count a parameter's steps with its first gradient."""
    coming = {"keyframes": [{"STEP": 0, "l1:linear:step": 0.0}, {"STEP": 5, "l1:linear:step": 1.0}]}
    training = Group(TwoHeads(), recipe_with()).training
    assert "change with the loss weights" in training.why_not(recipe_with(timeline=coming, loss_weights={"mse": 1.0}))
    assert training.why_not(recipe_with()) == ""
    assert training.why_not(recipe_with(loss="l1")) == ""


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam"])
def test_refused_for_the_optimizer(name: str) -> None:
    training = Group(Regression(), recipe_with()).training
    assert training.why_not(recipe_with(optimizer=name)).startswith(name)
    assert training.why_not(recipe_with()) == ""
