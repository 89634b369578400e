"""SHELF: update rules. Every optimizer of `torch.optim` by its class name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tuner.errors import SearchSpaceError
from tuner.registry import check_arguments

RESERVED = {"params": "the task's model", "lr": "the recipe's learning_rate"}


def names() -> dict[str, type[torch.optim.Optimizer]]:
    """torch's optimizer classes by name."""
    return {
        name: entry
        for name, entry in vars(torch.optim).items()
        if isinstance(entry, type) and issubclass(entry, torch.optim.Optimizer) and entry is not torch.optim.Optimizer
    }


def check(name: str, options: Iterable[str], where: Callable[[str], str]) -> None:
    """Raise `UsageError` for an option that the optimizer does not take; `where` gives an option's place."""
    check_arguments(names()[name], options, where, RESERVED)


def default_learning_rate(name: str) -> float:
    """torch's own default, for optimizers without one in `recipe.LEARNING_RATES`."""
    import inspect

    parameter = inspect.signature(names()[name]).parameters["lr"]
    return 1e-3 if parameter.default is inspect.Parameter.empty else float(parameter.default)


def build(
    name: str,
    model: nn.Module,
    learning_rate: float | None,
    options: Mapping[str, Any],
    multipliers: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """The optimizer `name` over a model's trainable parameters, in groups by `multipliers`.

    Raises `ValueError` or `TypeError`, as torch does, for values that the optimizer refuses.
    """
    rate = default_learning_rate(name) if learning_rate is None else learning_rate
    groups = parameter_groups(model, rate, multipliers or {})
    optimizer: torch.optim.Optimizer = names()[name](groups, lr=rate, **_as_tuples(options))  # type: ignore[call-arg]
    return optimizer


def parameter_groups(model: nn.Module, rate: float, multipliers: Mapping[str, float]) -> list[dict[str, Any]]:
    """Trainable parameters in groups by substring of their name, first match wins, the unmatched first.

    Raises `SearchSpaceError` for a multiplier that matches no parameter.
    """
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    owner = {name: next((key for key in multipliers if key in name), None) for name in trainable}
    for key in multipliers:
        if key not in owner.values():
            raise SearchSpaceError(
                "matches the name of no trainable parameter",
                place=f"lr_multipliers.{key}",
                value=key,
                hint="The model has: " + ", ".join(trainable),
            )
    groups = []
    factors: dict[str | None, float] = {None: 1.0}
    factors.update(multipliers.items())
    for wanted, factor in factors.items():
        members = [parameter for name, parameter in trainable.items() if owner[name] == wanted]
        if members:
            groups.append({"params": members, "lr": rate * factor})
    return groups


def _as_tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """YAML's lists as the tuples that torch asks for (`betas`)."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
