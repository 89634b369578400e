"""Standing: what every run keeps of its epochs, and what follows from them: best weights, early stopping, the end."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from tuner.errors import TaskError, did_you_mean
from tuner.recipe import Recipe, monitor_mode
from tuner.training.early_stopping import EarlyStopper
from tuner.training.records import packed, unpacked
from tuner.training.run import EpochRecord, Goal, Result
from tuner.training.series import Series, Trace


class Standing(ABC):
    """The books of a run of `recipe`: its records, its series, the weights to keep, whether it is over and why.

    `state` is the task's, that the losses depend on.
    """

    state: dict[str, Tensor]

    def __init__(self, recipe: Recipe, goal: Goal, terms: tuple[str, ...], device: torch.device) -> None:
        self.recipe, self.goal, self.device = recipe, goal, device
        self.stopper = self._stopper(terms)
        self.series, self.trace = Series((*terms, "loss", "learning_rate")), Trace()
        self.done, self.diverged, self.reason = False, False, ""
        self.records: list[EpochRecord] = []
        self.kept: dict[str, Tensor] | None = None
        self.state_kept: dict[str, Tensor] | None = None
        self.kept_epoch: int | None = None
        self.best: float | None = None

    def _stopper(self, terms: tuple[str, ...]) -> EarlyStopper | None:
        stopping = self.recipe.early_stopping
        if stopping is None:
            return None
        mode = monitor_mode(stopping.monitor, stopping.mode, self.goal.metric, self.goal.maximize, terms)
        return EarlyStopper(stopping.patience, stopping.min_delta, mode or "min")

    @abstractmethod
    def weights_now(self) -> dict[str, Tensor]:
        """A copy of the tensors of the model's `state_dict`, on the model's device."""

    @property
    def epochs_done(self) -> int:
        """Whole epochs trained and validated."""
        return len(self.records)

    def judge(self, record: EpochRecord) -> None:
        """Take an epoch's record: keep the weights where they are the ones to keep, and see whether the run is over."""
        self.records.append(record)
        watched = ("train_loss", "val_loss", self.goal.metric)
        broken = next((name for name in watched if not math.isfinite(_recorded(record, name))), None)
        if broken:
            self.done = self.diverged = True
            self.reason = f"diverged at epoch {record.epoch}: {broken} is {record.values[broken]}"
            return
        value = record.values[self.goal.metric]
        monitored_best = self.stopper is not None and self.stopper.update(self._monitored(record))
        if self.goal.better(value, self.best):
            self.best = value
            if self.goal.value == "best":
                self._keep(record.epoch)
        if self.goal.value == "last" and (monitored_best or self.stopper is None):
            self.kept_epoch = record.epoch
            if self.stopper is not None:
                self._keep(record.epoch)
        if self.stopper is not None and self.stopper.exhausted:
            self.done = True
            self.reason = f"early stopping at epoch {record.epoch}"
        elif record.epoch >= self.recipe.epochs:
            self.done = True

    def _monitored(self, record: EpochRecord) -> float:
        assert self.recipe.early_stopping is not None
        return _recorded(record, self.recipe.early_stopping.monitor)

    def _keep(self, epoch: int) -> None:
        self.kept, self.kept_epoch = self.weights_now(), epoch
        self.state_kept = copied(self.device, self.state)

    def kept_weights(self) -> dict[str, Tensor]:
        """The weights that gave the run's value: its best epoch's, or what training left."""
        return self.kept if self.kept is not None else self.weights_now()

    def kept_state(self) -> dict[str, Tensor]:
        """The task's state beside those weights."""
        return self.state_kept if self.state_kept is not None else self.state

    def result(self) -> Result:
        """How the run stands, or ended."""
        value = None
        if self.kept_epoch is not None:
            value = self.records[self.kept_epoch - 1].values[self.goal.metric]
        return Result(
            value=None if self.diverged else value,
            reason=self.reason,
            diverged=self.diverged,
            epochs_done=self.epochs_done,
            epochs_asked=self.recipe.epochs,
            value_epoch=self.kept_epoch,
            records=tuple(self.records),
        )

    def books(self) -> dict[str, Any]:
        """All of it but the weights kept, as plain values and arrays, for `state_dict`."""
        return {name: getattr(self, name) for name in _PLAIN} | {
            "stopper": None if self.stopper is None else asdict(self.stopper),
            "series": self.series.array(),
            "trace": self.trace.arrays(),
            "records": packed(self.records),
        }

    def restore_books(self, state: Mapping[str, Any]) -> None:
        """Go on from earlier `books()`, and the weights `kept` with their `kept_state`."""
        if self.stopper is not None:
            self.stopper = EarlyStopper(**state["stopper"])
        self.series.restore(state["series"])
        self.trace.restore(state["trace"])
        self.records = unpacked(state["records"])
        self.kept, self.state_kept = (
            None if state.get(name) is None else copied(self.device, state[name]) for name in ("kept", "kept_state")
        )
        for name in _PLAIN:
            setattr(self, name, state[name])


_PLAIN = ("best", "kept_epoch", "done", "diverged", "reason")
"""What is kept beside these in plain values, by attribute."""


def copied(device: torch.device, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of tensors on `device`."""
    return {name: tensor.detach().to(device, copy=True) for name, tensor in tensors.items()}


def _recorded(record: EpochRecord, name: str) -> float:
    """A recorded value; `TaskError` for a mean of nothing, which is not recorded."""
    if name not in record.values:
        hint = did_you_mean(name, record.values)
        raise TaskError("no sample of this epoch counts towards the value that is needed", value=name, hint=hint)
    return record.values[name]
