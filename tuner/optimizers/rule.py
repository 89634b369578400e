"""Rule: how one optimizer moves the weights of many trials at once, one trial a row."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tuner.registry import shelf

Column = npt.NDArray[np.float64]
"""One number for each of some steps of a trial: steps."""

Variant = tuple[str, ...]
"""What trials must have in common to be updated together, such as `("amsgrad", "decay")`."""

SMALLEST_EPS = 1e-30
"""A smaller `eps` may be 0 in float32, and 0 / (0 + eps), as between two parameters of a row, NaN."""


class Rule(ABC):
    """An update rule on rows: K trials' weights as trials x parameters, each with its own hyperparameters.

    A row's result, to the last bit, depends on nothing but that row: not on how many there are, nor on its place. So
    `update` uses none but operations that give an element the same wherever it lies (add, mul, div, sqrt, addcmul,
    addcdiv, lerp, maximum; not pow or exp). Columns that are zero in weights and gradients stay zero.

    A rule holds no state; the trials' state lies in `slots`, matrices like the weights, one by each name.
    """

    name: ClassVar[str]
    """torch's name of the optimizer."""

    def __init__(self, variant: Variant = ()) -> None:
        self.variant = variant

    @classmethod
    @abstractmethod
    def variant_of(cls, options: Mapping[str, Any]) -> Variant | None:
        """What of the options is part of the rule, and not a number of each row; None where only torch can do it.

        `options` are those that `complete` gives, or arrays of the values that they take over the run.
        """

    @property
    @abstractmethod
    def slots(self) -> tuple[str, ...]:
        """The state that each row has, by torch's names."""

    def first(self, options: Mapping[str, Any]) -> dict[str, float]:
        """What fills each slot of a trial before its first step."""
        return dict.fromkeys(self.slots, 0.0)

    @abstractmethod
    def scalars(self, options: Mapping[str, Any], steps: npt.NDArray[np.int64]) -> dict[str, Column]:
        """The numbers that `update` needs for some steps of one trial, each an array like `steps`.

        `steps` count from 1 over the trial's run; every numeric option is an array of its values at these steps.
        """

    @abstractmethod
    def update(
        self,
        weights: Tensor,
        gradients: Tensor,
        slots: Mapping[str, Tensor],
        rate: Tensor,
        scalars: Mapping[str, Tensor],
    ) -> None:
        """One step of every row, in place; to be called under `torch.no_grad()`.

        `weights`, `gradients` (which are overwritten) and each of `slots` are trials x parameters; `rate`, the
        learning rate, is trials x 1, or trials x parameters where parts of a model have rates of their own; each of
        `scalars`, by the names that `self.scalars` gives, is trials x 1. All of them are of one dtype.
        """

    def _prepare(self, weights: Tensor, gradients: Tensor, scalars: Mapping[str, Tensor]) -> None:
        """Turn the gradients around to maximize, and let weight decay have its part in them."""
        if "maximize" in self.variant:
            gradients.neg_()
        if "decay" in self.variant:
            gradients.addcmul_(weights, scalars["weight_decay"])


def find_rule(name: str, options: Mapping[str, Any]) -> Rule | None:
    """The rule for the optimizer `name` with a recipe's options, or a parameter group's; None where there is none.

    An option that moves over the run must be given as an array of the values that it takes, or of the lowest and the
    highest: whether it is ever 0 may decide. Trials that can be updated together get the same object.
    """
    entry = _rules().get(name)
    variant = None if entry is None else entry.variant_of(complete(name, options))
    return None if entry is None or variant is None else _made(entry, variant)


@functools.cache
def _rules() -> dict[str, type[Rule]]:
    return shelf("tuner.optimizers", Rule)


@functools.cache
def _made(entry: type[Rule], variant: Variant) -> Rule:
    return entry(variant)


def complete(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an optimizer but the learning rate: `options` laid over torch's defaults.

    `betas` become `beta1` and `beta2`. What is already complete stays as it is.
    """
    parameters = list(inspect.signature(vars(torch.optim)[name]).parameters.values())[1:]  # the first is the model's
    defaults = {entry.name: entry.default for entry in parameters if entry.name != "lr"}
    return _without_betas(defaults) | _without_betas(options)


def _without_betas(options: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in options.items() if name != "betas"}
    if "betas" in options:
        found["beta1"], found["beta2"] = options["betas"]
    return found


def ever(value: npt.ArrayLike) -> bool:
    """Whether a number, or an array of all its values, is ever other than 0."""
    return bool(np.any(np.asarray(value) != 0))


def always(value: npt.ArrayLike) -> bool:
    """Whether a number, or an array of all its values, is never 0."""
    return bool(np.all(np.asarray(value) != 0))


def true_ones(used: Mapping[str, bool]) -> Variant:
    """The names of what is used, in order."""
    return tuple(name for name, is_used in used.items() if is_used)


def can_divide(eps: npt.ArrayLike) -> bool:
    """Whether what is 0 can be divided by a root that is 0 and eps; else rows cannot have gaps of zeros."""
    return bool(np.all(np.asarray(eps) >= SMALLEST_EPS))


def root(values: Tensor, out: Tensor | None = None) -> Tensor:
    """The square root of every number, written to `out` if given.

    On the CPU by way of its reciprocal, to a few units in the last place: `torch.sqrt` is as fast there for ordinary
    numbers, but takes ten times as long for zeros, which are what weights without gradients have.
    """
    if values.is_cpu:
        return torch.rsqrt(values, out=out).reciprocal_()
    return torch.sqrt(values, out=out)
