"""Epoch rows: a table of our own beside Optuna's, one row an epoch of a trial."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tuner.storage.batched import BatchedStorage

metadata = sa.MetaData()

epochs = sa.Table(
    "tuner_epochs",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("trial", sa.Integer, nullable=False),
    sa.Column("train_loss", sa.Float),
    sa.Column("val_loss", sa.Float),
    sa.Column("learning_rate", sa.Float, nullable=False),
    sa.Column("gradient_norm", sa.Float),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("metrics", sa.Text, nullable=False),
)
"""`trial_id` is Optuna's, `trial` the trial's number, `epoch` counts from 1, `metrics` is JSON; NaN is NULL."""


@dataclass(frozen=True)
class EpochRow:
    """One epoch of one trial, as stored; `metrics` holds every recorded name, losses included."""

    trial_id: int
    trial: int
    epoch: int
    learning_rate: float
    gradient_norm: float
    seconds: float
    metrics: Mapping[str, float]

    def columns(self) -> dict[str, Any]:
        """The row's columns."""
        return {
            "trial_id": self.trial_id,
            "trial": self.trial,
            "epoch": self.epoch,
            "train_loss": _finite(self.metrics.get("train_loss")),
            "val_loss": _finite(self.metrics.get("val_loss")),
            "learning_rate": self.learning_rate,
            "gradient_norm": _finite(self.gradient_norm),
            "seconds": self.seconds,
            "metrics": json.dumps({name: _finite(value) for name, value in self.metrics.items()}),
        }


class EpochRows:
    """The epoch rows of a study's database."""

    def __init__(self, storage: BatchedStorage) -> None:
        self._storage = storage
        with storage.engine.begin() as connection:
            connection.execute(sa.schema.CreateTable(epochs, if_not_exists=True))

    def write(self, rows: Iterable[EpochRow]) -> None:
        """Write rows, with the storage's transaction or in one of their own; one that is there is replaced."""
        values = [row.columns() for row in rows]
        if values:
            self._storage.execute(sa.insert(epochs).prefix_with("OR REPLACE", dialect="sqlite"), values)

    def forget(self, trial_id: int) -> None:
        """Delete the rows of a trial that begins again."""
        self._storage.execute(sa.delete(epochs).where(epochs.c.trial_id == trial_id), [])

    def read(self, trial_ids: Collection[int] | None = None) -> list[dict[str, Any]]:
        """All rows of the database, or those of some trials by Optuna's id, by trial and epoch."""
        query = sa.select(epochs).order_by(epochs.c.trial_id, epochs.c.epoch)
        if trial_ids is not None:
            query = query.where(epochs.c.trial_id.in_(trial_ids))
        with self._storage.engine.connect() as connection:
            found = [dict(row._mapping) for row in connection.execute(query)]
        return [{**row, "metrics": json.loads(row["metrics"])} for row in found]


def _finite(value: float | None) -> float | None:
    """NaN and infinities as None: SQLite and JSON have no NaN."""
    return value if value is not None and abs(value) < float("inf") else None
