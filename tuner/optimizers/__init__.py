"""SHELF: update rules. Every optimizer of `torch.optim` by its class name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tuner.optimizers.fitting import check_groups, check_model
from tuner.optimizers.groups import parameter_groups
from tuner.registry import check_arguments

__all__ = ["build", "check", "check_model", "default_learning_rate", "names", "parameter_groups", "rate_for"]

RESERVED = {"params": "the task's model", "lr": "the recipe's learning_rate"}


def names() -> dict[str, type[torch.optim.Optimizer]]:
    """torch's optimizer classes by name."""
    return {
        name: entry
        for name, entry in vars(torch.optim).items()
        if isinstance(entry, type) and issubclass(entry, torch.optim.Optimizer) and entry is not torch.optim.Optimizer
    }


def check(
    name: str, options: Iterable[str], where: Callable[[str], str], values: Mapping[str, Any] | None = None
) -> None:
    """Raise `UsageError` for an option that the optimizer does not take; `where` gives an option's place.

    `values` are those that are fixed; torch itself checks them when the optimizer is built.
    """
    check_arguments(names()[name], options, where, RESERVED)


def default_learning_rate(name: str) -> float:
    """torch's own default, for optimizers without one in `recipe.LEARNING_RATES`."""
    import inspect

    parameter = inspect.signature(names()[name]).parameters["lr"]
    return 1e-3 if parameter.default is inspect.Parameter.empty else float(parameter.default)


def rate_for(name: str, learning_rate: float | None) -> float:
    """A recipe's learning rate, or torch's own default where it has none."""
    return default_learning_rate(name) if learning_rate is None else learning_rate


def build(
    name: str,
    model: nn.Module,
    learning_rate: float | None,
    options: Mapping[str, Any],
    multipliers: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """The optimizer `name` over a model's trainable parameters, in groups by `multipliers`.

    Raises `ValueError` or `TypeError`, as torch does, for values that the optimizer refuses; `SearchSpaceError` for
    a model that it cannot train, as far as the parameters' shapes and groups tell.
    """
    rate = rate_for(name, learning_rate)
    groups = parameter_groups(model, rate, multipliers or {})
    check_groups(name, groups)
    if name == "Muon":
        check_model(name, model)
    optimizer: torch.optim.Optimizer = names()[name](groups, lr=rate, **_as_tuples(options))  # type: ignore[call-arg]
    return optimizer


def _as_tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """YAML's lists as the tuples that torch asks for (`betas`)."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
