"""Run: one recipe in training. Plain, fused, live and remote training all drive this interface.

A run reports; only the conductor decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Goal:
    """What a trial is scored by: its best epoch's `metric`, or its last's."""

    metric: str
    maximize: bool = False
    value: Literal["best", "last"] = "best"

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` beats `than` (None: nothing yet); NaN beats nothing."""
        if value != value:
            return False
        return than is None or (value > than if self.maximize else value < than)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of one trial.

    `epoch` counts from 1, `steps` over the whole run; `values` holds train and validation loss, every loss
    term and every metric by their recorded names; `learning_rate` is the last step's; `gradient_norm` the
    mean over the epoch's steps, before clipping; `seconds` the wall time.
    """

    epoch: int
    steps: int
    values: Mapping[str, float]
    learning_rate: float
    gradient_norm: float
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def train_loss(self) -> float:
        """The weighted training loss, averaged over the epoch's samples."""
        return self.values["train_loss"]

    @property
    def val_loss(self) -> float:
        """The weighted validation loss at the epoch's end."""
        return self.values["val_loss"]


@dataclass(frozen=True)
class Result:
    """How a run ended: `value` by its goal, and where the kept weights come from (epochs count from 1)."""

    value: float | None
    reason: str
    diverged: bool
    epochs_done: int
    epochs_asked: int
    value_epoch: int | None
    records: tuple[EpochRecord, ...] = field(repr=False, default=())

    def summary(self) -> dict[str, Any]:
        """What a study records of a trial beside its value; `gap` is final validation minus training loss."""
        if not self.records:
            return {"epochs_done": 0, "epochs_asked": self.epochs_asked} if self.epochs_asked else {}
        last = self.records[-1]
        return {
            "final_train_loss": last.train_loss,
            "final_val_loss": last.val_loss,
            "best_train_loss": min(record.train_loss for record in self.records),
            "best_val_loss": min(record.val_loss for record in self.records),
            "gap": last.val_loss - last.train_loss,
            "best_epoch": self.value_epoch,
            "epochs_done": self.epochs_done,
            "epochs_asked": self.epochs_asked,
            "seconds": sum(record.seconds for record in self.records),
        }


class Run(Protocol):
    """One recipe in training.

    What it does depends on the recipe alone: all that is random is a function of its seeds, the epoch and the step.
    """

    done: bool

    def step(self) -> None:
        """Train on the next batch; seeds the global generators."""

    def epoch(self) -> list[EpochRecord]:
        """Train to the end of the current epoch and validate; leaves the global generators as they were."""

    def result(self) -> Result:
        """How the run stands, or ended."""

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on exactly from here, as `checkpoints.save_checkpoint` takes it: a copy, on the CPU.

        May be taken between any two steps. A model keeps what it learns in parameters, buffers and extra state:
        plain attributes are not in it, nor is what a task keeps on itself.
        """

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()` of the same recipe, taken on any device; to be called before the first step."""
