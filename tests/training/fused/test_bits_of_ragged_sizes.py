"""The same where nothing is a multiple of anything: vectorized kernels compute their last few numbers otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from fusing import Group, Regression, held, recipe_with, small, trained_in
from resuming import same_bits
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.recipe import Recipe
from tuner.tasks import Task

WIDTH = 13
"""Units between; a batch is 7, and the last of an epoch 3."""


class Shaped(nn.Module):
    """A function of batch x 5 x 13 as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Bilinear(WIDTH, WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x, x.flip(-1))
        return out


POINTWISE: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu by tanh": lambda: nn.GELU("tanh"),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "softplus": nn.Softplus,
    "log sigmoid": nn.LogSigmoid,
    "hardswish": nn.Hardswish,
    "softsign": nn.Softsign,
    "leaky relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "glu": lambda: Shaped(lambda x: F.glu(torch.cat([x, x.flip(-1)], dim=-1), dim=-1)),
    "sine": lambda: Shaped(torch.sin),
    "exp": lambda: Shaped(lambda x: (-x.square()).exp()),
    "log": lambda: Shaped(lambda x: x.square().add(1).log()),
    "root": lambda: Shaped(lambda x: x.square().add(1).sqrt()),
    "root's reciprocal": lambda: Shaped(lambda x: x.square().add(1).rsqrt()),
    "power": lambda: Shaped(lambda x: x.abs().add(0.1).pow(1.7)),
    "erf": lambda: Shaped(torch.erf),
    "arctangent": lambda: Shaped(torch.atan),
    "log add exp": lambda: Shaped(lambda x: torch.logaddexp(x, x.flip(-1))),
}

OTHER: dict[str, Callable[[], nn.Module]] = {
    "softmax": lambda: nn.Softmax(dim=-1),
    "softmax over the middle": lambda: nn.Softmax(dim=1),
    "log softmax": lambda: nn.LogSoftmax(dim=-1),
    "log sum exp": lambda: Shaped(lambda x: x - x.logsumexp(-1, keepdim=True)),
    "mean and deviation": lambda: Shaped(lambda x: (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1)),
    "length": lambda: Shaped(lambda x: F.normalize(x, dim=-1)),
    "cumulated": lambda: Shaped(lambda x: x.cumsum(1)),
    "greatest": lambda: Shaped(lambda x: x - x.amax(1, keepdim=True)),
    "sorted": lambda: Shaped(lambda x: x.sort(dim=-1).values),
    "layer norm": lambda: nn.LayerNorm(WIDTH),
    "rms norm": lambda: nn.RMSNorm(WIDTH),
    "group norm": lambda: nn.GroupNorm(5, 5),
    "batch norm": lambda: nn.BatchNorm1d(5),
    "instance norm": lambda: nn.InstanceNorm1d(5, affine=True),
    "linear": lambda: nn.Sequential(nn.Linear(WIDTH, 7), nn.ReLU(), nn.Linear(7, WIDTH)),
    "bilinear": Bilinear,
    "convolution": lambda: nn.Conv1d(5, 5, 3, padding=1),
    "depthwise": lambda: nn.Conv1d(5, 5, 5, padding=2, groups=5),
    "dilated": lambda: nn.Conv1d(5, 5, 3, padding=2, dilation=2),
    "strided and back": lambda: nn.Sequential(nn.Conv1d(5, 3, 3, 2, 1), nn.ConvTranspose1d(3, 5, 3, 2, 1)),
    "pooled": lambda: Shaped(lambda x: x - F.avg_pool1d(x, 3, 1, 1) + F.max_pool1d(x, 3, 1, 1)),
    "interpolated": lambda: Shaped(lambda x: F.interpolate(F.avg_pool1d(x, 3), size=WIDTH, mode="linear")),
    "attention": lambda: nn.TransformerEncoderLayer(WIDTH, 1, 17, dropout=0.2, batch_first=True),
    "products": lambda: Shaped(lambda x: x @ x.mT @ x / 50),
    "dropout": lambda: nn.Dropout(0.3),
}


class With(Regression):
    """Its model has one of these in its middle."""

    samples = 17

    def __init__(self, *parts: Callable[[], nn.Module]) -> None:
        self.parts = parts

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        layers = [nn.Linear(4, 5 * WIDTH), nn.Unflatten(1, (5, WIDTH)), *[part() for part in self.parts]]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(5 * WIDTH, 1), nn.Flatten(0))


def assert_same_in_any_part(task: Task, recipe: Recipe) -> None:
    """An epoch of two trials, each alone, and as the first and the last of seven."""
    group = Group(task, recipe)
    first, last, *others = (recipe.model_copy(update={"seed": seed, "dropout_seed": seed}) for seed in range(7))
    members = group.start(first, *others, last)
    trained_in([members])
    for member in (members[0], members[-1]):
        found, alone = held(member), held(*group.train(group.start(member.recipe), epochs=1))
        assert [name for name in alone if not same_bits(found[name], alone[name])] == []


@pytest.mark.parametrize("name", POINTWISE)
def test_functions_of_one_number(name: str) -> None:
    task = With(POINTWISE[name], lambda: nn.Conv1d(5, 5, 1), POINTWISE[name])
    assert_same_in_any_part(task, recipe_with(batch_size=7, epochs=1))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", OTHER)
def test_layers(name: str) -> None:
    assert_same_in_any_part(With(OTHER[name]), recipe_with(batch_size=7, epochs=1))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("colors", {"model": {"hidden": 13}, "batch_size": 53}),
        ("picture", {"batch_size": 300, "model": {"hidden": 19, "frequencies": 3}}),
        ("digits", {"batch_size": 13, "model": {"channels": 5, "tau": 1.7}}),
        ("arc", {"batch_size": 5, "model": {"heads": 3, "head_dim": 5, "d_ff": 21}}),
        ("denoise", {"batch_size": 3, "model": {"channels": 3, "residual": False}}),
    ],
)
def test_bundled_tasks(name: str, options: dict[str, Any]) -> None:
    assert_same_in_any_part(*small(name, **options))
