"""What a scheduler does over a run, without training: the rates of every step, or why there is but one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from tuner.errors import shorten
from tuner.recipe import SchedulerConfigs
from tuner.schedules.building import build
from tuner.schedules.catalog import is_plateau
from tuner.schedules.overwriting import cycles_momentum
from tuner.schedules.stepper import Stepper

REACH = 20
"""A scheduler that changes nothing is followed for this many times the run's length, to say when it would."""

MOST_STEPS = 20_000
"""Steps that `why_constant` follows at most."""


def rates(
    name: str | None,
    optimizer: torch.optim.Optimizer,
    options: Mapping[str, Any],
    configs: SchedulerConfigs,
    epochs: int,
    steps_per_epoch: int,
    at_most: int = 100_000,
) -> dict[str, list[list[float]]]:
    """The values at each optimizer step of a run (its first `at_most`): steps x parameter groups.

    `learning_rate`, and `momentum` (or the first of the betas) where the scheduler cycles it. The optimizer is left
    as it is. A plateau scheduler keeps the rate, for no metric is known. Raises what `build` raises, and what the
    scheduler raises as it goes.
    """
    readers = {"learning_rate": _rates_of}
    if cycles_momentum(name, options):
        readers["momentum"] = _momentums_of
    found: dict[str, list[list[float]]] = {key: [] for key in readers}
    with _stepping(name, optimizer, options, configs, epochs, steps_per_epoch) as (still, stepper):
        for step in range(1, min(at_most, epochs * steps_per_epoch) + 1):
            for key, read in readers.items():
                found[key].append(read(still))
            stepper.after_step(step, None)
            if step % steps_per_epoch == 0:
                stepper.after_epoch(step // steps_per_epoch, {})
    return found


def why_constant(
    name: str | None,
    optimizer: torch.optim.Optimizer,
    options: Mapping[str, Any],
    configs: SchedulerConfigs,
    epochs: int,
    steps_per_epoch: int,
) -> str | None:
    """A sentence that says why the scheduler never changes the rate in a run; None where it does, or may.

    A plateau scheduler is shown a metric that never improves, so that a sentence means that it cannot act at all.
    """
    if name is None:
        return None
    length = epochs if configs.interval == "epoch" else epochs * steps_per_epoch
    reach = min(REACH * length, MOST_STEPS)
    change, followed = _first_change(name, optimizer, options, configs, epochs, steps_per_epoch, reach)
    if reach < length or (change is not None and change < length):
        return None
    unit = configs.interval
    every = f", stepping every {configs.frequency} {unit}s" if configs.frequency > 1 else ""
    if change is None:
        given = ", ".join(f"{key} {shorten(value)}" for key, value in options.items()) or "these options"
        longer = f" and in one of {_count(followed, unit)}" if followed > length else ""
        return f"{name} keeps the rate as it is, in this run{longer}, with {given}{every}"
    if is_plateau(name):
        patience = options.get("patience", 10)
        rule = f"lowers the rate after {_count(change, unit)} at the earliest (patience {patience}{every})"
    else:
        rule = f"first changes the rate after {_count(change, unit)}{every}"
    return f"{name} {rule}; the run has {length}"


def _first_change(
    name: str,
    optimizer: torch.optim.Optimizer,
    options: Mapping[str, Any],
    configs: SchedulerConfigs,
    epochs: int,
    steps_per_epoch: int,
    reach: int,
) -> tuple[int | None, int]:
    """After how many epochs (interval epoch) or steps the rates first differ from those at the start, if they do.

    The second number is how many were followed: some schedulers were not made to go on behind the run's end.
    """
    values = {configs.monitor: 0.0}
    length = epochs if configs.interval == "epoch" else epochs * steps_per_epoch
    with _stepping(name, optimizer, options, configs, epochs, steps_per_epoch, REACH) as (still, stepper):
        first = _rates_of(still)
        for count in range(1, reach + 1):
            try:
                if configs.interval == "epoch":
                    stepper.after_epoch(count, values)
                else:
                    stepper.after_step(count, values if count > steps_per_epoch else None)
            except (ValueError, ArithmeticError):
                if count < length:
                    raise
                return None, length
            if _rates_of(still) != first:
                return count, count
    return None, reach


@contextmanager
def _stepping(
    name: str | None,
    optimizer: torch.optim.Optimizer,
    options: Mapping[str, Any],
    configs: SchedulerConfigs,
    epochs: int,
    steps_per_epoch: int,
    longer: int = 1,
) -> Iterator[tuple[torch.optim.Optimizer, Stepper]]:
    """The scheduler, made for the run, over a stand-in for the optimizer; it may step `longer` times as far."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        still = stand_in(optimizer)
        scheduler = build(name, still, options, configs, epochs, steps_per_epoch)
        still.step()  # torch warns of schedulers that step before their optimizer
        yield still, Stepper(name, scheduler, configs, longer * epochs, steps_per_epoch)


class Still(torch.optim.Optimizer):
    """An optimizer that moves nothing."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Nothing."""


def stand_in(optimizer: torch.optim.Optimizer) -> Still:
    """Groups of one number each, with the optimizer's own values before any scheduler changed them."""
    groups = []
    for group in optimizer.param_groups:
        values = {key: copy.deepcopy(value) for key, value in group.items() if key not in ("params", "initial_lr")}
        values["lr"] = float(group.get("initial_lr", group["lr"]))
        groups.append({**values, "params": [torch.zeros(1, requires_grad=True)]})
    return Still(groups, dict(optimizer.defaults))


def _rates_of(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _momentums_of(optimizer: torch.optim.Optimizer) -> list[float]:
    """Each group's momentum, as torch's cycling schedulers set it: the first of the betas, where it has some."""
    return [float(group["betas"][0] if "betas" in group else group["momentum"]) for group in optimizer.param_groups]


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
