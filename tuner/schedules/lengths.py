"""What a scheduler's option is in a given run where it is left out or `auto`: lengths, and the groups' rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tuner.recipe import SchedulerConfigs
from tuner.schedules.catalog import is_plateau, names

AUTO = "auto"


@dataclass(frozen=True)
class Run:
    """The run that a scheduler is for: `steps` are the scheduler's own, `rates` each parameter group's."""

    steps: int
    epochs: int
    steps_per_epoch: int
    rates: tuple[float, ...]

    @classmethod
    def of(cls, configs: SchedulerConfigs, epochs: int, steps_per_epoch: int, rates: Iterable[float]) -> Run:
        """The run in which the scheduler steps as `configs` say.

        `steps` counts the rates that it sets, the first among them, so that the run ends before a curve's own end.
        """
        length = epochs if configs.interval == "epoch" else epochs * steps_per_epoch
        return cls(math.ceil(length / configs.frequency), epochs, steps_per_epoch, tuple(rates))

    def stretch(self, start: int, end: int | None) -> Run:
        """The part of it from one of the scheduler's steps to another, or to the end."""
        return replace(self, steps=max(1, (self.steps if end is None else end) - start))


Filler = Callable[[Run], Any]


def _steps(run: Run) -> int:
    return run.steps


def _half(run: Run) -> int:
    return max(1, run.steps // 2)


def _rates(run: Run) -> list[float]:
    return list(run.rates)


def _half_and_three_quarters(run: Run) -> list[int]:
    """Where K. He et al. (2016) lower the rate on CIFAR: after 32k and 48k of 64k steps."""
    return sorted({max(1, run.steps // 2), max(1, 3 * run.steps // 4)})


LEFT_OUT: dict[str, dict[str, Filler]] = {
    "CosineAnnealingLR": {"T_max": _steps},
    "CosineAnnealingWarmRestarts": {"T_0": _steps},
    "OneCycleLR": {"total_steps": _steps, "max_lr": _rates},
    "CyclicLR": {"base_lr": _rates},
}
"""Options of torch's schedulers that may be left out, or be `auto`."""

SAID_AUTO: dict[str, dict[str, Filler]] = {
    "ConstantLR": {"total_iters": _steps},
    "LinearLR": {"total_iters": _steps},
    "PolynomialLR": {"total_iters": _steps},
    "CyclicLR": {"step_size_up": _half},
    "MultiStepLR": {"milestones": _half_and_three_quarters},
    "OneCycleLR": {"epochs": lambda run: run.epochs, "steps_per_epoch": lambda run: run.steps_per_epoch},
}
"""Options that may be `auto`; left out, they have torch's default or are required."""


def fillers(name: str) -> dict[str, Filler]:
    """The options of scheduler `name` that are filled in where they are left out."""
    own = vars(names()[name]).get("length")
    return {own: _steps} if isinstance(own, str) else LEFT_OUT.get(name, {})


def autos(name: str) -> dict[str, Filler]:
    """The options of scheduler `name` that may be `auto`."""
    return {**fillers(name), **SAID_AUTO.get(name, {})}


def completed(name: str, options: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """The options of scheduler `name`, what is left out or `auto` filled in from the run.

    Raises `ValueError` for an `auto` that means nothing.
    """
    found = {key: value for key, value in options.items() if value != AUTO}
    for key in options.keys() - found.keys():
        if key in autos(name):
            found[key] = autos(name)[key](run)
        elif not (is_plateau(name) and key == "mode"):  # its goal is the run's to say
            raise ValueError(f"{key} cannot be auto")
    for key, filler in fillers(name).items():
        found.setdefault(key, filler(run))
    if (
        name == "OneCycleLR"
        and options.get("total_steps", AUTO) == AUTO
        and {"epochs", "steps_per_epoch"} <= {*options}
    ):
        del found["total_steps"]
    return found
