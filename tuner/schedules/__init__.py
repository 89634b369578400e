"""SHELF: learning-rate schedules. Schedulers of `torch.optim.lr_scheduler` by their class name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.optim import lr_scheduler

from tuner.recipe import SchedulerConfigs
from tuner.registry import check_arguments

RESERVED = {"optimizer": "the recipe's optimizer", "last_epoch": "the run itself"}
COMPOSED = ("LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")
"""Schedulers built from functions or from other schedulers, which a name and plain options cannot say."""


def names() -> dict[str, type[Any]]:
    """torch's scheduler classes by name."""
    return {
        name: entry
        for name, entry in vars(lr_scheduler).items()
        if isinstance(entry, type)
        and issubclass(entry, lr_scheduler.LRScheduler)
        and not name.startswith("_")
        and name not in ("LRScheduler", *COMPOSED)
    }


def check(name: str, options: Iterable[str], where: Callable[[str], str]) -> None:
    """Raise `UsageError` for an option that the scheduler does not take; `where` gives an option's place."""
    given = list(options)
    check_arguments(names()[name], [*given, *(key for key in _lengths(name, 1) if key not in given)], where, RESERVED)


def is_plateau(name: str | None) -> bool:
    """Whether the scheduler watches a metric."""
    return name == "ReduceLROnPlateau"


def build(
    name: str | None,
    optimizer: torch.optim.Optimizer,
    options: Mapping[str, Any],
    configs: SchedulerConfigs,
    epochs: int,
    steps_per_epoch: int,
) -> Any:
    """The scheduler `name` over `optimizer`, or None for a constant rate.

    Lengths left out or `auto` (`T_max`, `total_steps`) are the run's, in the scheduler's own steps.
    Raises `ValueError` or `TypeError`, as torch does, for values that the scheduler refuses.
    """
    if name is None:
        return None
    length = epochs if configs.interval == "epoch" else epochs * steps_per_epoch
    given = {key: value for key, value in options.items() if value != "auto"}
    return names()[name](optimizer, **{**_lengths(name, max(1, length // configs.frequency)), **given})


def _lengths(name: str, steps: int) -> dict[str, int]:
    """The option in which a scheduler takes its whole length, set to `steps`."""
    return {"CosineAnnealingLR": {"T_max": steps}, "OneCycleLR": {"total_steps": steps}}.get(name, {})
