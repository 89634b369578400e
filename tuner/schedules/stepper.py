"""Stepper: a scheduler, and when it steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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

    def state_dict(self) -> dict[str, Any]:
        """Where the scheduler stands, as plain values; empty without a scheduler."""
        return {} if self.scheduler is None else _plain(self.scheduler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()` of the same scheduler."""
        if self.scheduler is not None:
            self.scheduler.load_state_dict(_plain(state))
            _restore_counters(self.scheduler)


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
