"""torch's own optimizers on a row of a matrix: the same bits as over a model, wherever the row lies."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from resuming import same_bits
from torch import Tensor, nn

from tuner import optimizers
from tuner.optimizers.by_torch import ByTorch, why_not
from tuner.optimizers.options import numeric_options, set_option

NAMES = sorted(name for name in optimizers.names() if not why_not(name))
STEPS, WIDTH = 8, 96
STARTS = (16, 48, 80)
"""With gaps before and between them."""

PARTS = {"2.": 0.25}
"""The last layer learns more slowly, where there are groups."""


def model_for(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Matrices, as Muon takes no other; the second is none of the row's."""
    torch.manual_seed(4)
    layers = [nn.Linear(*sizes, bias=False) for sizes in ((4, 5), (5, 3), (3, 3), (3, 1))]
    return nn.Sequential(*layers).to(dtype)


class Trial:
    """One trial by torch over its own model, or over a row of a matrix; both get the same gradients."""

    def __init__(self, name: str, as_row: bool, dtype: torch.dtype = torch.float32) -> None:
        self.model = model_for(dtype)
        self.optimizer = optimizers.build(name, self.model, 0.03, {}, PARTS)
        self.parameters = [entry for key, entry in self.model.named_parameters() if key != "1.weight"]
        self.by_torch = ByTorch(self.optimizer, self.parameters, STARTS) if as_row else None
        self.row = torch.zeros(WIDTH, dtype=dtype)
        self.gradients = torch.zeros(WIDTH, dtype=dtype)
        if self.by_torch:
            for parameter, start in zip(self.parameters, STARTS, strict=True):
                self.row[start : start + parameter.numel()] = parameter.detach().flatten()
            self.move(2)

    def move(self, number: int) -> None:
        """The row becomes one of a matrix, between others."""
        assert self.by_torch is not None
        weights, gradients = torch.zeros(5, WIDTH, dtype=self.row.dtype), torch.zeros(5, WIDTH, dtype=self.row.dtype)
        weights[number] = self.row
        self.row, self.gradients = weights[number], gradients[number]
        self.by_torch.bind(self.row, self.gradients)

    def step(self, step: int, **options: float) -> None:
        rates = [0.03 / (step + 1), 0.03 * 0.25 / (step + 1)]
        generator = torch.Generator().manual_seed(step)
        found = [torch.randn(entry.shape, generator=generator).to(entry.dtype) for entry in self.parameters]
        if self.by_torch is not None:
            for start, gradient in zip(STARTS, found, strict=True):
                self.gradients[start : start + gradient.numel()] = gradient.flatten()
            has_betas = "betas" in self.optimizer.param_groups[0]
            names = {"momentum": "beta1"} if has_betas else {}
            self.by_torch.step(rates, {names.get(key, key): value for key, value in options.items()})
            return
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        for key, value in options.items():
            set_option(self.optimizer, key, value)
        for parameter, gradient in zip(self.parameters, found, strict=True):
            parameter.grad = gradient
        self.optimizer.step()

    def weights(self) -> list[Tensor]:
        return [entry.detach().clone() for entry in self.parameters]


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> tuple[Trial, Trial]:
    return Trial(request.param, as_row=True), Trial(request.param, as_row=False)


every_optimizer = pytest.mark.parametrize("pair", NAMES, indirect=True)


@every_optimizer
def test_a_row_that_moves_equals_a_model(pair: tuple[Trial, Trial]) -> None:
    row, model = pair
    before = model.weights()
    for step in range(STEPS):
        row.step(step)
        model.step(step)
        if step % 3 == 1:
            row.move(step % 5)
    assert same_bits(row.weights(), model.weights())
    assert not any(torch.equal(*entries) for entries in zip(before, model.weights(), strict=True))
    gaps = torch.ones(WIDTH, dtype=torch.bool)
    for parameter, start in zip(row.parameters, STARTS, strict=True):
        columns = slice(start, start + parameter.numel())
        gaps[columns] = False
        assert torch.equal(row.row[columns], parameter.detach().flatten())
    assert not row.row[gaps].any()


@every_optimizer
def test_what_is_scheduled_reaches_the_optimizer(pair: tuple[Trial, Trial]) -> None:
    row, model = pair
    group, moving = row.optimizer.param_groups[0], numeric_options(type(row.optimizer).__name__)
    for step in range(STEPS):
        options: dict[str, Any] = {}
        for name in moving:
            now = group["betas"][0] if name == "momentum" and "betas" in group else group[name]
            options[name] = now if isinstance(now, int) and now > 1 else now * 0.9 + 0.001
        row.step(step, **options)
        model.step(step, **options)
    assert same_bits(row.weights(), model.weights())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_trial_goes_on_from_its_state_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    """Also what is kept finer, or coarser, than the weights."""
    first, second = Trial(name, True, dtype), Trial(name, True, dtype)
    assert first.by_torch is not None and second.by_torch is not None
    for step in range(3):
        first.step(step)
    state = first.by_torch.state_dict()
    kept = copy.deepcopy(state)
    second.by_torch.load_state_dict(state)
    second.row.copy_(first.row)
    for step in range(3, STEPS):
        first.step(step)
        second.step(step)
    assert same_bits(second.weights(), first.weights())
    assert same_bits(second.by_torch.state_dict(), first.by_torch.state_dict())
    assert same_bits(state, kept)


def test_a_count_among_the_options_stays_whole() -> None:
    """Numbers come in tables of floats, and Muon counts its iterations."""
    trial = Trial("Muon", as_row=True)
    trial.step(0, ns_steps=5.0, momentum=0.5)
    group = trial.optimizer.param_groups[0]
    assert (group["ns_steps"], type(group["ns_steps"]), group["momentum"]) == (5, int, 0.5)


def test_those_that_cannot_train_in_stacks_say_why() -> None:
    assert {name for name in optimizers.names() if why_not(name)} == {"LBFGS", "SparseAdam"}
    assert all(why_not(name).startswith(name) for name in ("LBFGS", "SparseAdam"))
