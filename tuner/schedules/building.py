"""Builds schedulers over an optimizer: plain, from expressions, or composed of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tuner.errors import SearchSpaceError, UsageError
from tuner.recipe import SchedulerConfigs
from tuner.registry import find
from tuner.schedules.catalog import COMPOSED, EXPRESSIONS, names
from tuner.schedules.factors import factors
from tuner.schedules.lengths import Run, completed

LEAST = {
    "T_max": 1, "step_size": 1, "step_size_up": 1, "step_size_down": 1, "total_iters": 1, "total_steps": 1,
    "epochs": 1, "steps_per_epoch": 1, "max_epochs": 1, "warmup_epochs": 0, "patience": 0, "cooldown": 0,
}  # fmt: skip
"""Options that count something, and the least that each may be; torch would fail at some later step, or go astray."""


def build(
    name: str | None,
    optimizer: torch.optim.Optimizer,
    options: Mapping[str, Any],
    configs: SchedulerConfigs,
    epochs: int,
    steps_per_epoch: int,
) -> Any:
    """The scheduler `name` over `optimizer`, or None for a constant rate.

    Lengths left out or `auto` are the run's, in the scheduler's own steps; a part of a SequentialLR has its stretch
    between milestones. Rates left out (OneCycleLR's `max_lr`, CyclicLR's `base_lr`) are each parameter group's.
    Raises `ValueError` or `TypeError`, as torch does, for values that the scheduler refuses.
    """
    if name is None:
        return None
    rates = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
    run = Run.of(configs, epochs, steps_per_epoch, rates)
    return _built(name, optimizer, options, run, "scheduler_kwargs")


def _built(name: str, optimizer: torch.optim.Optimizer, options: Mapping[str, Any], run: Run, place: str) -> Any:
    kind = find("scheduler", name, names(), place)
    given = completed(name, options, run)
    _check_counts(given)
    if name in EXPRESSIONS and "lr_lambda" in given:
        given["lr_lambda"] = factors(given["lr_lambda"], f"{place}.lr_lambda", run.steps)
    if name in COMPOSED:
        return _composed(name, kind, optimizer, given, run, place)
    scheduler = _of_torch(kind, optimizer, given)
    if name == "OneCycleLR" and scheduler.total_steps < run.steps:
        rule = f"the run steps it {run.steps} times, and its total_steps are {scheduler.total_steps}"
        raise ValueError(f"{rule}; left out, they are the run's")
    return scheduler


def _of_torch(kind: Any, optimizer: torch.optim.Optimizer, given: Mapping[str, Any]) -> Any:
    try:
        return kind(optimizer, **given)
    except ZeroDivisionError:
        rule = "pct_start * total_steps must not be 1, nor a div_factor 0"
        raise ValueError(f"torch divides by zero here: {rule}") from None


def _composed(
    name: str, kind: Any, optimizer: torch.optim.Optimizer, given: dict[str, Any], run: Run, place: str
) -> Any:
    """A scheduler over others, which are built in their order over the same optimizer."""
    parts = given.pop("schedulers", [])
    stretches = (
        _stretches(run, given.get("milestones", []), len(parts)) if name == "SequentialLR" else [run] * len(parts)
    )
    schedulers = []
    for number, (part, stretch) in enumerate(zip(parts, stretches, strict=True)):
        at = f"{place}.schedulers[{number}]"
        if not isinstance(part, Mapping) or "scheduler" not in part:
            raise SearchSpaceError("must be a mapping with 'scheduler'", place=at, value=part)
        options = {key: value for key, value in part.items() if key != "scheduler"}
        try:
            schedulers.append(_built(part["scheduler"], optimizer, options, stretch, at))
        except UsageError:
            raise
        except (ValueError, TypeError) as error:
            raise ValueError(f"schedulers[{number}], {part['scheduler']}: {error}") from error
    if name == "ChainedScheduler":
        return kind(schedulers, optimizer=optimizer, **given)
    return kind(optimizer, schedulers=schedulers, **given)


def _stretches(run: Run, milestones: Sequence[int], count: int) -> list[Run]:
    """The stretch of the run that each of `count` parts has, as far as there are milestones."""
    ends: list[int | None] = [*milestones[: count - 1], *[None] * max(0, count - len(milestones))]
    starts = [0, *(end for end in ends if end is not None), *[0] * count]
    return [run.stretch(start, end) for start, end in zip(starts[:count], ends[:count], strict=True)]


def _check_counts(options: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a count that is no whole number, or too small."""
    for name, least in LEAST.items():
        value = options.get(name)
        if value is not None and (type(value) is not int or value < least):
            raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
