"""Actions may change numbers in place and the task's state; in a group nothing else would be seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from fusing import Regression
from odd import Make, assert_refused, assert_trained_as_alone, small_net
from torch import Tensor, nn

from tuner.tasks import Batch


class Acting(Regression):
    """`do` is its action, at the beginning of the second epoch; the state's number weighs the loss."""

    actions = ("act",)

    def __init__(self, do: Callable[[Any, Mapping[str, Tensor]], dict[str, Tensor]]) -> None:
        self.do = do

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        return small_net(nn.BatchNorm1d(6), nn.Dropout(0.0))

    def on_action(self, name: str, model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.do(model, state)

    def state(self) -> dict[str, Tensor]:
        return {"number": torch.zeros(2)}

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = super().losses(output, batch, state)
        return {name: term * (1 + state["number"].sum()) for name, term in found.items()}


def frozen_by_action(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model[0].weight.requires_grad_(False)
    return {}


def data_replaced(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model[0].weight.data = torch.ones(6, 4)
    return {}


def parameter_replaced(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model[0].weight = nn.Parameter(torch.ones(6, 4))
    return {}


def buffer_replaced(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    model[1].running_mean = torch.ones(6)
    return {}


def initialized_anew(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    nn.init.normal_(model[0].weight)
    model[1].reset_running_stats()
    return {"number": state["number"] + 1}


def looked_at(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By the model as it trains: BatchNorm sees the samples."""
    return {"number": model(torch.arange(8.0).reshape(2, 4) / 8).abs()}


TRAINED: dict[str, Make] = {
    "that begins anew": lambda: Acting(initialized_anew),
    "that looks": lambda: Acting(looked_at),
}

REFUSED: dict[str, tuple[Make, str]] = {
    "that freezes": (lambda: Acting(frozen_by_action), "freezes"),
    "that replaces data": (lambda: Acting(data_replaced), "replaces"),
    "that replaces a parameter": (lambda: Acting(parameter_replaced), "replaces"),
    "that replaces a buffer": (lambda: Acting(buffer_replaced), "replaces"),
    "with a state of its own": (lambda: Acting(lambda model, state: {"other": torch.ones(2)}), "state 'other'"),
    "with a smaller state": (lambda: Acting(lambda model, state: {"number": torch.ones(())}), "state 'number'"),
    "with a finer state": (lambda: Acting(lambda model, state: {"number": torch.ones(2).double()}), "state 'number'"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_trained_as_alone(name: str) -> None:
    assert_trained_as_alone(TRAINED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence(name: str) -> None:
    assert_refused(*REFUSED[name])
