"""Stepper: a scheduler, and when it steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.recipe import SchedulerConfigs
from tuner.schedules.catalog import is_plateau


class Stepper:
    """Steps `scheduler`, made by `build` for the same run, every `frequency` epochs or steps.

    Nothing steps behind the run's last step, where no rate is needed any more and OneCycleLR would refuse to go on,
    but a plateau scheduler, which is part of what an epoch's record says. `start` is the run's step and epoch at which
    the schedule begins, which is then as long from there as a whole run.
    """

    def __init__(
        self,
        name: str | None,
        scheduler: Any,
        configs: SchedulerConfigs,
        epochs: int,
        steps_per_epoch: int,
        start: tuple[int, int] = (0, 0),
    ) -> None:
        self.scheduler, self.configs, self.start = scheduler, configs, start
        self._watches = is_plateau(name)
        self._steps_per_epoch, self._last_step = steps_per_epoch, epochs * steps_per_epoch

    def after_step(self, step: int, values: Mapping[str, float] | None) -> None:
        """To be called after each optimizer step; `step` counts from 1 over the whole run.

        `values` is the last epoch's record, None in the first epoch.
        """
        taken = step - self.start[0]
        if self._is_due("step", taken):
            self._advance(taken, values or {})

    def after_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """To be called after each epoch, which counts from 1, with its record."""
        taken = epoch - self.start[1]
        if self._is_due("epoch", taken):
            self._advance(taken * self._steps_per_epoch, values)

    def _is_due(self, interval: str, count: int) -> bool:
        return self.scheduler is not None and self.configs.interval == interval and count % self.configs.frequency == 0

    def _advance(self, step: int, values: Mapping[str, float]) -> None:
        if self._watches:
            if self.configs.monitor in values:
                self.scheduler.step(values[self.configs.monitor])
        elif step < self._last_step:
            self.scheduler.step()

    def go_on_from(self, other: Stepper) -> None:
        """Go on from where a stepper of the same scheduler is, which is over another optimizer."""
        self.span = other.span
        if self.scheduler is not None:
            self.load_state_dict(_with_own(other.state_dict(), self.scheduler))

    @property
    def span(self) -> list[int]:
        """Where the schedule begins, the length of its epochs, and its end, in steps of its own."""
        return [*self.start, self._steps_per_epoch, self._last_step]

    @span.setter
    def span(self, numbers: Sequence[int]) -> None:
        step, epoch, self._steps_per_epoch, self._last_step = numbers
        self.start = (step, epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the scheduler stands, as plain values; empty without a scheduler."""
        return {} if self.scheduler is None else _plain(self.scheduler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()` of the same scheduler."""
        if self.scheduler is not None:
            self.scheduler.load_state_dict(_plain(state))
            _restore_counters(self.scheduler)


OF_OPTIMIZER = ("use_beta1", "cycle_momentum", "base_momentums", "max_momentums")
"""What OneCycleLR and CyclicLR know of the optimizer that they are over."""


def _with_own(state: Mapping[str, Any], scheduler: Any) -> dict[str, Any]:
    """A scheduler's state for another one of its kind, over another optimizer."""
    found = {**state, **{key: value for key, value in vars(scheduler).items() if key in OF_OPTIMIZER}}
    parts = getattr(scheduler, "_schedulers", [])
    if parts:
        found["_schedulers"] = [_with_own(*pair) for pair in zip(state["_schedulers"], parts, strict=True)]
    return found


def _plain(value: Any) -> Any:
    """A copy of a nested value: dicts, lists, numbers, texts; torch's schedulers alter what they are given."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _restore_counters(scheduler: Any) -> None:
    """MultiStepLR keeps its milestones as a Counter, whose methods it needs within SequentialLR."""
    if isinstance(getattr(scheduler, "milestones", None), Mapping):
        scheduler.milestones = Counter(scheduler.milestones)
    for part in getattr(scheduler, "_schedulers", []):
        _restore_counters(part)
