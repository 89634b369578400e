"""What a model keeps from step to step: in its buffers it may, else it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from odd import Make, With, assert_refused, assert_trained_as_alone, doing, small_net
from torch import Tensor, nn


def mean_in_place(model: Any, x: Tensor) -> Tensor:
    if model.training:
        model.seen.mul_(0.9).add_(0.1 * x.detach().mean(0))
        model.calls += 1
    return x - model.seen


def mean_replaced(model: Any, x: Tensor) -> Tensor:
    if model.training:
        model.seen = 0.9 * model.seen + 0.1 * x.detach().mean(0)
    return x - model.seen


def counted(model: Any, x: Tensor) -> Tensor:
    model.times += 1
    return x * (1 + 0.1 * model.times)


def collected(model: Any, x: Tensor) -> Tensor:
    model.kept.append(len(x))
    return x * (2 if len(model.kept) > 6 else 1)


def kept_mean(model: Any, x: Tensor) -> Tensor:
    model.kept = 0.9 * (0 if model.kept is None else model.kept.detach()) + 0.1 * x.mean(0)
    return x - model.kept


def cached(model: Any, x: Tensor) -> Tensor:
    if not hasattr(model, "ones"):
        model.register_buffer("ones", torch.ones(4), persistent=False)
    return x * model.ones


class ExtraState(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 1)
        self.note = torch.zeros(2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(1)

    def get_extra_state(self) -> Tensor:
        return self.note

    def set_extra_state(self, state: Tensor) -> None:
        self.note = state


class FrozenNorm(nn.Sequential):
    """Keeps its BatchNorm in evaluation, as in fine-tuning."""

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self[1].eval()
        return self


def in_evaluation() -> nn.Module:
    net = small_net(nn.BatchNorm1d(6))
    net[1].eval()
    return net


TRAINED: dict[str, Make] = {
    "buffers changed in place": lambda: doing(mean_in_place),
    "a norm in evaluation when built": lambda: With(in_evaluation),
    "a model in evaluation when built": lambda: With(lambda: small_net(nn.BatchNorm1d(6)).eval()),
    "a norm that stays in evaluation": lambda: With(lambda: FrozenNorm(*small_net(nn.BatchNorm1d(6)))),
    "a norm without averages": lambda: With(lambda: small_net(nn.BatchNorm1d(6, track_running_stats=False))),
}

REFUSED: dict[str, tuple[Make, str]] = {
    "a buffer replaced": (lambda: doing(mean_replaced), "replaces 'seen', which must be changed in place"),
    "a buffer made": (lambda: doing(cached), "buffer: ones"),
    "a count": (lambda: doing(counted, times=0), "neither parameter nor buffer: times"),
    "a list that grows": (lambda: doing(collected, kept=[]), "neither parameter nor buffer: kept"),
    "a tensor kept": (lambda: doing(kept_mean, kept=None), "neither parameter nor buffer: kept"),
    "extra state": (lambda: With(ExtraState), "_extra_state"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_trained_as_alone(name: str) -> None:
    assert_trained_as_alone(TRAINED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence(name: str) -> None:
    assert_refused(*REFUSED[name])
