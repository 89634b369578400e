"""Every update rule does to each row what torch's optimizer does to a tensor, whatever stands in the other rows.

These tests run over the whole shelf: a new rule is tested here without another line.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from tuner import optimizers
from tuner.optimizers.rule import Rule, complete, find_rule
from tuner.registry import shelf

NAMES = sorted(shelf("tuner.optimizers", Rule))
HOW = ("foreach", "fused", "capturable", "differentiable")
"""Options of torch that say how it computes, and not what."""

STEPS, ROWS, WIDTH = 50, 3, 48
HEAD_START = 4
"""Row k has done k times as many steps before the others join it."""

LONGEST = np.arange(1, STEPS + HEAD_START * ROWS + 1)

Scheduled = Callable[[np.ndarray], np.ndarray]
"""Factors by step, from 1."""


class Case(NamedTuple):
    """An optimizer, its options that are on or off, and which of the numeric ones are other than 0."""

    name: str
    switches: Mapping[str, bool]
    positive: tuple[str, ...]

    @property
    def id(self) -> str:
        return "-".join([self.name, *(name for name, on in self.switches.items() if on), *self.positive])


def combinations(name: str) -> Iterator[Case]:
    """Every combination of what torch lets one switch on, and of numbers that are 0 unless given."""
    options = complete(name, {})
    switches = [key for key, value in options.items() if isinstance(value, bool) and key not in HOW]
    zeros = [key for key, value in options.items() if not isinstance(value, bool) and value == 0]
    for on in itertools.product((False, True), repeat=len(switches)):
        for above in itertools.product((False, True), repeat=len(zeros)):
            case = Case(name, dict(zip(switches, on, strict=True)), tuple(itertools.compress(zeros, above)))
            if torch_takes(case):
                yield case


def torch_takes(case: Case) -> bool:
    try:
        by_torch(case.name, options_of(case, 0), {torch.zeros(1): 0.1})
    except ValueError:  # such as Nesterov's momentum with dampening
        return False
    return True


def options_of(case: Case, row: int) -> dict[str, Any]:
    """Complete options of one row, with numbers of its own that torch allows: each between 0 and 1."""
    found = complete(case.name, case.switches)
    draw = np.random.default_rng([row, *map(ord, case.name)])
    for name, value in found.items():
        if isinstance(value, (bool, type(None))):
            continue
        if value == 0:
            found[name] = float(draw.uniform(0.05, 0.6)) if name in case.positive else 0.0
        else:
            found[name] = float(value ** draw.uniform(0.5, 1.5))
    return found


def by_torch(name: str, options: Mapping[str, Any], parts: Mapping[Tensor, float]) -> torch.optim.Optimizer:
    """torch's optimizer over tensors, each with its own rate."""
    kwargs = {key: value for key, value in options.items() if key not in ("beta1", "beta2")}
    if "beta1" in options:
        kwargs["betas"] = (options["beta1"], options["beta2"])
    groups = [{"params": [part.requires_grad_()], "lr": rate} for part, rate in parts.items()]
    return optimizers.names()[name](groups, **kwargs)


def columns(options: Mapping[str, Any], steps: np.ndarray, factor: Scheduled) -> dict[str, np.ndarray]:
    """The numeric options at some steps; a schedule bends a number between 0 and 1 to another between 0 and 1."""
    found = {}
    for key, value in options.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            fixed = value == 0 or key == "initial_accumulator_value"
            found[key] = np.full(len(steps), float(value)) if fixed else value ** factor(steps)
    return found


def steady(steps: np.ndarray) -> np.ndarray:
    return np.ones(len(steps))


def waving(steps: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 + 0.3 * np.sin(steps))


class Row:
    """One row of a stack: its number, and what is to be known of it at each step."""

    def __init__(self, case: Case, rule: Rule, number: int, factor: Scheduled) -> None:
        options = options_of(case, number)
        self.number, self.done = number, 0
        self.rates = rate_of(number) * factor(LONGEST)
        self.scalars = rule.scalars(columns(options, LONGEST, factor), LONGEST)
        self.first = rule.first(options)


class Stack:
    """Some rows of a case under its rule, each with its own options, rates and count of steps."""

    def __init__(self, case: Case, numbers: Sequence[int], dtype: torch.dtype, factor: Scheduled = steady) -> None:
        rule = find_rule(case.name, options_of(case, numbers[0]))
        assert rule is not None
        self.rule, self.dtype = rule, dtype
        self.rows = [Row(case, rule, number, factor) for number in numbers]
        self.weights = torch.stack([start(number) for number in numbers]).to(dtype)
        self.slots = {
            slot: self._column([row.first[slot] for row in self.rows]).repeat(1, WIDTH) for slot in rule.slots
        }

    def step(self, spoiled: Mapping[int, float] | None = None) -> None:
        """One step of all rows; a gradient of those in `spoiled`, by place, is made that number."""
        gradients = torch.stack([gradient(row.number, row.done) for row in self.rows])
        for place, value in (spoiled or {}).items():
            gradients[place, 5] = value
        self.update(self.weights, gradients.to(self.dtype))

    def update(self, weights: Tensor, gradients: Tensor, factors: float | Tensor = 1.0) -> None:
        """A step of other weights, with the slots and scalars of these; `factors` are of the rate."""
        rate = self._column([row.rates[row.done] for row in self.rows]) * factors
        scalars = {key: self._column([row.scalars[key][row.done] for row in self.rows]) for key in self.rows[0].scalars}
        with torch.no_grad():
            self.rule.update(weights, gradients, self.slots, rate, scalars)
        for row in self.rows:
            row.done += 1

    def _column(self, numbers: list[float]) -> Tensor:
        return torch.tensor(numbers, dtype=self.dtype).unsqueeze(1)

    def joined_by(self, other: Stack) -> None:
        """The rows of another stack, behind one's own."""
        self.rows += other.rows
        self.weights = torch.cat([self.weights, other.weights])
        self.slots = {slot: torch.cat([self.slots[slot], other.slots[slot]]) for slot in self.slots}


def rate_of(row: int) -> float:
    return 0.02 * (row + 1)


def start(row: int) -> Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(row))


@functools.cache
def gradient(row: int, step: int) -> Tensor:
    """Of each row its own, and of its own size; its last columns are zero for some steps."""
    found = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1000 * (row + 1) + step)) * 10.0 ** (row - 2)
    found[-8:] *= step > 20
    return found


def trained_by_torch(case: Case, row: int, steps: int, dtype: torch.dtype, factor: Scheduled = steady) -> Tensor:
    """What torch's optimizer makes of one row alone."""
    options, weights = options_of(case, row), start(row).to(dtype)
    optimizer = by_torch(case.name, options, {weights: rate_of(row)})
    group = optimizer.param_groups[0]
    table = columns(options, LONGEST, factor) | {"lr": rate_of(row) * factor(LONGEST)}
    for step in range(steps):
        now = {key: float(column[step]) for key, column in table.items()}
        if "beta1" in now:
            group["betas"] = (now.pop("beta1"), now.pop("beta2"))
        group.update(now)
        weights.grad = gradient(row, step).to(dtype)
        optimizer.step()
    return weights.detach()


def trained_as_rows(case: Case, dtype: torch.dtype, factor: Scheduled = steady) -> Stack:
    """Rows of which each has done more steps than the one behind it."""
    stack = Stack(case, [ROWS - 1], dtype, factor)
    for row in reversed(range(ROWS - 1)):
        for _ in range(HEAD_START):
            stack.step()
        stack.joined_by(Stack(case, [row], dtype, factor))
    for _ in range(STEPS):
        stack.step()
    return stack


def assert_as_torch(case: Case, factor: Scheduled = steady) -> None:
    """In float64 to 12 digits, and in float32 no further from that than a few times what torch's float32 is."""
    fine, coarse = trained_as_rows(case, torch.float64, factor), trained_as_rows(case, torch.float32, factor)
    for place, row in enumerate(fine.rows):
        expected = trained_by_torch(case, row.number, row.done, torch.float64, factor)
        assert not torch.allclose(expected, start(row.number).double(), rtol=1e-3)
        torch.testing.assert_close(fine.weights[place], expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))
        theirs = trained_by_torch(case, row.number, row.done, torch.float32, factor)
        rounding = (theirs - expected).norm() + 1e-6 * expected.norm()
        assert (coarse.weights[place] - expected).norm() < 3 * rounding


CASES = [case for name in NAMES for case in combinations(name)]
FULL = [max((case for case in CASES if case.name == name), key=lambda case: len(case.id)) for name in NAMES]
"""Of each rule the combination with most in it."""

every_case = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
every_rule = pytest.mark.parametrize("case", FULL, ids=[case.id for case in FULL])


def same_bits(one: Tensor, other: Tensor) -> bool:
    whole = {torch.float32: torch.int32, torch.float64: torch.int64}[one.dtype]
    return torch.equal(one.contiguous().view(whole), other.contiguous().view(whole))


def test_the_shelf_holds_the_rules_that_are_promised() -> None:
    assert {"Adam", "AdamW", "SGD", "RMSprop", "Adagrad"} <= set(NAMES)
    assert set(NAMES) <= set(optimizers.names())


@every_case
def test_rows_of_different_age_equal_torch(case: Case) -> None:
    assert_as_torch(case)


@every_case
def test_what_is_scheduled_equals_torch(case: Case) -> None:
    """Learning rate and every number between steps, the betas too."""
    assert_as_torch(case, waving)


@every_case
def test_bits_depend_on_neither_number_nor_place_of_rows(case: Case) -> None:
    for dtype in (torch.float32, torch.float64):
        alone = {row: Stack(case, [row], dtype) for row in range(5)}
        stacks = [Stack(case, rows, dtype) for rows in ([0, 1], [4, 2, 0], [3, 1, 4, 2], [2, 0, 1, 3, 4])]
        for stack in (*alone.values(), *stacks):
            for _ in range(5):
                stack.step()
        for stack in stacks:
            for place, row in enumerate(stack.rows):
                other = alone[row.number]
                assert same_bits(stack.weights[place], other.weights[0])
                assert all(same_bits(stack.slots[slot][place], other.slots[slot][0]) for slot in stack.slots)


@every_case
@pytest.mark.parametrize("spoil", [float("nan"), float("inf")])
def test_a_row_that_diverges_touches_no_other(case: Case, spoil: float) -> None:
    healthy, ill = Stack(case, [0, 1, 2], torch.float32), Stack(case, [0, 1, 2], torch.float32)
    for step in range(6):
        healthy.step()
        ill.step({1: spoil} if step == 2 else None)
    assert not ill.weights[1].isfinite().all()
    for row in (0, 2):
        assert same_bits(ill.weights[row], healthy.weights[row])


@every_case
def test_gaps_between_parameters_stay_zero(case: Case) -> None:
    """In the weights, and in the gradients too, whose norm is taken over whole rows."""
    stack = Stack(case, [0, 1], torch.float32)
    weights, gradients = torch.zeros(2, WIDTH), torch.zeros(2, WIDTH)
    for _ in range(3):
        stack.update(weights, gradients)
        assert not weights.any()
        assert not gradients.any()


@every_rule
def test_a_rate_for_each_column(case: Case) -> None:
    """As where parts of a model have rates of their own, 0 among them."""
    stack, factors = Stack(case, [0, 1], torch.float64), (1.0, 0.0, 0.5, 3.0)
    for step in range(5):
        gradients = torch.stack([gradient(row, step) for row in (0, 1)]).double()
        stack.update(stack.weights, gradients, torch.tensor(factors, dtype=torch.float64).repeat_interleave(WIDTH // 4))
    for row in (0, 1):
        parts = start(row).double().chunk(4)
        rates = {part: rate_of(row) * factor for part, factor in zip(parts, factors, strict=True)}
        optimizer = by_torch(case.name, options_of(case, row), rates)
        for step in range(5):
            for part, entry in zip(parts, gradient(row, step).double().chunk(4), strict=True):
                part.grad = entry
            optimizer.step()
        torch.testing.assert_close(stack.weights[row], torch.cat(parts).detach(), rtol=1e-12, atol=1e-12)


@every_case
def test_scalars_are_the_same_however_a_run_is_cut(case: Case) -> None:
    options, steps = options_of(case, 0), np.arange(1, 200)
    rule = Stack(case, [0], torch.float32).rule
    whole = rule.scalars(columns(options, steps, waving), steps)
    for cuts in ([1], [7, 8, 60], list(range(3, 199, 5))):
        parts = [rule.scalars(columns(options, part, waving), part) for part in np.split(steps, cuts)]
        for name, expected in whole.items():
            assert expected.shape == steps.shape
            assert np.array_equal(np.concatenate([part[name] for part in parts]), expected)


@pytest.mark.parametrize("name", NAMES)
def test_complete_options_are_those_of_a_torch_optimizer(name: str) -> None:
    parameters = inspect.signature(optimizers.names()[name]).parameters
    given = {"betas": [0.5, 0.75]} if "betas" in parameters else {"weight_decay": 0.25}
    found = complete(name, given)
    group = optimizers.build(name, torch.nn.Linear(1, 1), 0.1, given).param_groups[0]
    for key in found.keys() - {"beta1", "beta2"}:
        assert found[key] == group[key]
    assert (found.get("beta1"), found.get("beta2")) == tuple(group.get("betas", (None, None)))
    assert complete(name, found) == found


@pytest.mark.parametrize("name", NAMES)
def test_trials_that_differ_in_numbers_alone_share_a_rule(name: str) -> None:
    case = max((case for case in CASES if case.name == name and not case.switches["maximize"]), key=lambda c: len(c.id))
    first, second = (find_rule(name, options_of(case, row)) for row in (0, 1))
    assert first is second is not None
    for how in HOW:
        if how in complete(name, {}):
            assert find_rule(name, {**options_of(case, 2), how: True}) is first
    assert find_rule(name, {**options_of(case, 2), "maximize": True}) is not first
    group = optimizers.build(name, torch.nn.Linear(1, 1), 0.1, {}).param_groups[0]
    assert find_rule(name, group) is find_rule(name, {})


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_decay_that_begins_at_zero_counts(name: str) -> None:
    moving = find_rule(name, {"weight_decay": np.array([0.0, 0.1])})
    assert moving is find_rule(name, {"weight_decay": 0.1})
    assert moving is not find_rule(name, {"weight_decay": 0.0})


@pytest.mark.parametrize("name", ["SGD", "RMSprop"])
def test_a_momentum_that_is_zero_at_times_is_left_to_torch(name: str) -> None:
    assert find_rule(name, {"momentum": np.array([0.9, 0.0])}) is None
    assert find_rule(name, {"momentum": np.array([0.9, 0.5])}) is find_rule(name, {"momentum": 0.9})


@pytest.mark.parametrize("name", [name for name in NAMES if "eps" in complete(name, {})])
def test_an_eps_of_zero_is_left_to_torch(name: str) -> None:
    assert find_rule(name, {"eps": 0.0}) is None
    assert find_rule(name, {"eps": np.array([1e-8, 0.0])}) is None


def test_other_optimizers_have_no_rule() -> None:
    assert all(find_rule(name, {}) is None for name in optimizers.names() if name not in NAMES)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "Adagrad"])
def test_a_gradient_whose_square_overflows_is_survived_as_by_torch(name: str) -> None:
    case = Case(name, {}, ())
    stack, weights = Stack(case, [0, 1], torch.float32), start(0)
    optimizer = by_torch(name, options_of(case, 0), {weights: rate_of(0)})
    for step in range(4):
        stack.step({0: 1e25} if step == 1 else None)
        weights.grad = gradient(0, step).clone()
        if step == 1:
            weights.grad[5] = 1e25
        optimizer.step()
    assert weights.isfinite().all()
    torch.testing.assert_close(stack.weights[0], weights.detach(), rtol=1e-5, atol=1e-6)
