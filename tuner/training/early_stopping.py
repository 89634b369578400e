"""Early stopping: end a run whose monitored value no longer improves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class EarlyStopper:
    """Counts epochs in which the monitored value was not strictly better by `min_delta`."""

    patience: int
    min_delta: float
    mode: Literal["min", "max"]
    best: float | None = None
    waited: int = 0

    def update(self, value: float) -> bool:
        """Take an epoch's value; True if it is the best so far."""
        sign = 1.0 if self.mode == "min" else -1.0
        if self.best is None or sign * value < sign * self.best - self.min_delta:
            self.best, self.waited = value, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether `patience` epochs passed without improvement."""
        return self.waited >= self.patience
