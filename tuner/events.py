"""What happens in a search, as typed events: progress, JSON output and watching all feed on these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    def as_dict(self) -> dict[str, Any]:
        """The event as plain values, its class's name under `event`."""
        return {"event": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class StudyOpened(Event):
    """A study is ready; `counted` trials of `trials` (None: no limit) are already done, `in_flight` were cut off."""

    study: str
    task: str
    mode: str
    metric: str
    direction: str
    trials: int | None
    counted: int
    resumed: bool
    device: str
    best_value: float | None = None
    best_trial: int | None = None
    in_flight: int = 0


@dataclass(frozen=True)
class Note(Event):
    """Something a person should know; `level` is info or warning."""

    message: str
    level: str = "info"


@dataclass(frozen=True)
class TrialStarted(Event):
    """A trial begins to train for at most `epochs` epochs (0: it has no epochs), or goes on after `epochs_done`."""

    trial: int
    params: dict[str, Any]
    epochs: int
    epochs_done: int = 0


@dataclass(frozen=True)
class EpochDone(Event):
    """One epoch of one trial; `epoch` counts from 1."""

    trial: int
    epoch: int
    epochs: int
    train_loss: float
    val_loss: float
    learning_rate: float
    value: float | None
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialEnded(Event):
    """A trial ended; `state` is complete, pruned or failed, and `reason` says why."""

    trial: int
    state: str
    value: float | None
    reason: str
    params: dict[str, Any]
    epochs_done: int
    epochs_asked: int
    seconds: float
    gap: float | None
    counted: int
    best_value: float | None
    best_trial: int | None
    is_best: bool = False


@dataclass(frozen=True)
class StudyEnded(Event):
    """The search is over; `reason` says why, in words."""

    study: str
    reason: str
    counted: int
    best_value: float | None
    best_trial: int | None
    seconds: float


Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An `Emit` that drops every event."""
