"""A trial in flight: what trains it, what it has reported since the last round, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from optuna.trial import TrialState

from tuner.storage.epochs import EpochRow
from tuner.training.run import EpochRecord, Result


class Body(Protocol):
    """What trains a trial: a `Run`, or a user's objective."""

    done: bool

    def epoch(self) -> list[EpochRecord]: ...
    def result(self) -> Result: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class Flight:
    """A trial in flight.

    `records` are epochs trained that the study has not got yet, `recorded` those it has. `outcome` is set once the
    trial has ended: a state and the reason. `retries` counts how often it was tried again after a failure; `fused`
    says that others train with it. `noted` is what is to be recorded with it beside how it ended.
    """

    number: int
    trial_id: int
    params: Mapping[str, Any]
    body: Body
    recipe: Mapping[str, Any] | None = None
    fused: bool = False
    recorded: int = 0
    records: list[EpochRecord] = field(default_factory=list)
    outcome: tuple[TrialState, str] | None = None
    failure: BaseException | None = None
    retries: int = 0
    seconds: float = 0.0
    noted: dict[str, Any] = field(default_factory=dict)

    def row(self, record: EpochRecord) -> EpochRow:
        """An epoch of this trial as it is stored."""
        return EpochRow(
            trial_id=self.trial_id,
            trial=self.number,
            epoch=record.epoch,
            learning_rate=record.learning_rate,
            gradient_norm=record.gradient_norm,
            seconds=record.seconds,
            metrics=dict(record.values),
        )


class Unstarted:
    """The body of a trial that could not even be started."""

    done = False

    def epoch(self) -> list[EpochRecord]:
        return []

    def result(self) -> Result:
        return Result(None, "", False, 0, 0, None)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass
