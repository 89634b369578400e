"""A recipe's scheduler over an optimizer, and what it does at an epoch's end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tuner import schedules
from tuner.recipe import Recipe, monitor_mode
from tuner.schedules.stepper import Stepper
from tuner.training.run import Goal

RATES = ("lr", "initial_lr", "max_lr", "min_lr")
"""Rates of a parameter group; the last two are OneCycleLR's."""


def stepper_over(
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    goal: Goal,
    terms: tuple[str, ...],
    steps_per_epoch: int,
    start: tuple[int, int] = (0, 0),
) -> Stepper | None:
    """The recipe's scheduler over `optimizer`, None for a constant rate; a plateau's `auto` mode follows the goal.

    It begins at the run's step and epoch `start`.
    """
    configs = recipe.scheduler_configs
    if recipe.scheduler is None:
        return None
    options = dict(recipe.scheduler_kwargs)
    if schedules.is_plateau(recipe.scheduler):
        given = options.get("mode", "auto")
        options["mode"] = monitor_mode(configs.monitor, given, goal.metric, goal.maximize, terms) or "min"
    length = (recipe.epochs, steps_per_epoch)
    scheduler = schedules.build(recipe.scheduler, optimizer, options, configs, *length)
    return Stepper(recipe.scheduler, scheduler, configs, *length, start)


def end_epoch(
    recipe: Recipe, optimizer: torch.optim.Optimizer, stepper: Stepper | None, epoch: int, values: Mapping[str, float]
) -> tuple[str, ...]:
    """Let the scheduler see an epoch's values; gives a note where it lowered the rate on a plateau.

    `epoch` counts from 1.
    """
    before = rate_of(optimizer)
    if stepper is not None:
        stepper.after_epoch(epoch, values)
    after = rate_of(optimizer)
    if not schedules.is_plateau(recipe.scheduler) or after >= before:
        return ()
    monitor = recipe.scheduler_configs.monitor
    return (f"epoch {epoch}: {monitor} is on a plateau, learning rate {before:.3g} -> {after:.3g}",)


def rescale(optimizer: torch.optim.Optimizer, stepper: Stepper, factor: float) -> None:
    """Let a scheduler go on as if the rate that it goes out from had been `factor` times as high."""
    for group in optimizer.param_groups:
        for key in RATES:
            if key in group:
                group[key] *= factor
    _rescale_base(stepper.scheduler, factor)


def _rescale_base(scheduler: Any, factor: float) -> None:
    for name in ("base_lrs", "max_lrs"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, [rate * factor for rate in getattr(scheduler, name)])
    for part in getattr(scheduler, "_schedulers", []):
        _rescale_base(part, factor)


def rate_of(optimizer: torch.optim.Optimizer) -> float:
    """The rate of the first parameter group, which is the recipe's unless all parameters have multipliers."""
    return float(optimizer.param_groups[0]["lr"])
