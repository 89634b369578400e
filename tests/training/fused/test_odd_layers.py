"""Layers that vmap treats otherwise than most, and code that it cannot follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fusing import Regression
from odd import Doing, Make, With, assert_refused, assert_trained_as_alone, doing
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tuner.tasks import Task

pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad"),
]


class Recurrent(nn.Module):
    def __init__(self, kind: Any, layers: int, **options: Any) -> None:
        super().__init__()
        self.cells, self.out = kind(1, 5, layers, batch_first=True, **options), nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cells(x.unsqueeze(2))[0][:, -1]).squeeze(1)  # type: ignore[no-any-return]


class Embedded(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.table, self.line = nn.Embedding(5, 3, **options), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.line(self.table((2 * x[:, 0].abs()).long().clamp(max=4))).squeeze(1)
        return found


class Rooted(torch.autograd.Function):
    """A gradient of one's own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.abs().sqrt()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0].sign() * 0.3


class OldRooted(torch.autograd.Function):
    """The same, as it was written before there was vmap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.abs().sqrt()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0].sign() * 0.3


def by_checkpoint(reentrant: bool) -> Task:
    def do(model: Any, x: Tensor) -> Tensor:
        hidden = x * model.line.weight
        found: Tensor = checkpoint(model.inner, hidden, use_reentrant=reentrant)
        return found

    class Model(Doing):
        def __init__(self) -> None:
            super().__init__(do)
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    return With(Model)


class BothWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.out = nn.RNN(1, 3, bidirectional=True, batch_first=True), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cells(x)[0].mean(1)).squeeze(1)  # type: ignore[no-any-return]


def unfusable() -> Task:
    task = Regression()
    task.fusable = False  # type: ignore[misc]
    return task


TRAINED: dict[str, Make] = {
    "rows of bounded norm": lambda: With(lambda: Embedded(max_norm=0.5)),
    "LSTM": lambda: With(lambda: Recurrent(nn.LSTM, 1)),
    "GRU": lambda: With(lambda: Recurrent(nn.GRU, 2)),
    "RNN both ways": lambda: With(lambda: nn.Sequential(nn.Unflatten(1, (4, 1)), BothWays())),
    "a gradient of one's own": lambda: doing(lambda model, x: Rooted.apply(x * model.line.weight)),
}

REFUSED: dict[str, tuple[Make, str]] = {
    "the task says so": (unfusable, "fusable = False"),
    "a padding row": (lambda: With(lambda: Embedded(padding_idx=0)), "padding_idx"),
    "a number read": (lambda: doing(lambda model, x: x * (1 + x.mean().item())), r"\.item\(\)"),
    "a decision by the data": (lambda: doing(lambda model, x: x if x.mean() > 0 else -x), "control flow"),
    "NumPy": (lambda: doing(lambda model, x: torch.from_numpy(np.sin(x.detach().numpy()))), "RuntimeError"),
    "a gradient, the old way": (lambda: doing(lambda model, x: OldRooted.apply(x * model.line.weight)), "RuntimeError"),
    "checkpoints": (lambda: by_checkpoint(False), "Error"),
    "checkpoints, the old way": (lambda: by_checkpoint(True), "Error"),
    "LSTM with dropout": (lambda: With(lambda: Recurrent(nn.LSTM, 2, dropout=0.5)), "random"),
    "sparse gradients": (lambda: With(lambda: Embedded(sparse=True)), "[sS]parse"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_trained_as_alone(name: str) -> None:
    assert_trained_as_alone(TRAINED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence(name: str) -> None:
    assert_refused(*REFUSED[name])
