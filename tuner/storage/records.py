"""Records: a study as columns, all that analysis reads, without an object for each trial."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tuner.files import series_path

HEAVY = ("recipe", "values", "traceback")
"""User attributes that are read for single trials only."""

EPOCH_COLUMNS = ("trial", "epoch", "train_loss", "val_loss", "learning_rate", "gradient_norm", "seconds")

Floats = NDArray[np.float64]
ReadHeavy = Callable[[str, Collection[int]], dict[int, Any]]
ReadMetrics = Callable[[Collection[int]], dict[int, dict[int, dict[str, float | None]]]]


@dataclass(frozen=True)
class Records:
    """A study as columns: place n of each holds trial number n.

    `states` are Optuna's names, `values` NaN where there is none, `started` and `completed` NaT. `notes` are the user
    attributes by key, None where a trial has none; those of `HEAVY` are read by `heavy`. `parameters` are the values
    as Optuna gives them, `pd.NA` where a parameter was not suggested. `reports` are the intermediate values, columns
    trial, step and value, in that order. `epochs` has `EPOCH_COLUMNS`, or no rows for a study that tuner did not make.
    """

    name: str
    directions: tuple[str, ...]
    attributes: Mapping[str, Any]
    states: list[str]
    values: Floats
    started: pd.DatetimeIndex
    completed: pd.DatetimeIndex
    notes: Mapping[str, list[Any]]
    parameters: Mapping[str, list[Any]]
    distributions: Mapping[str, BaseDistribution]
    reports: pd.DataFrame
    epochs: pd.DataFrame
    files: Path | None = None
    heavy: ReadHeavy = field(repr=False, default=lambda key, numbers: {})
    metrics: ReadMetrics = field(repr=False, default=lambda numbers: {})

    @property
    def maximize(self) -> bool:
        """Whether higher is better."""
        return self.directions[0] == "MAXIMIZE"

    def __len__(self) -> int:
        return len(self.states)

    def note(self, key: str) -> list[Any]:
        """A user attribute of every trial; None where it has none."""
        return self.notes.get(key) or [None] * len(self)

    def series(self, number: int) -> Path | None:
        """Where the per-step series of a trial lies, if it has one; None for a study that has no folder."""
        return None if self.files is None else series_path(self.files, number)

    def recipes(self, numbers: Collection[int]) -> dict[int, dict[str, Any]]:
        """The recipes of these trials, as far as they have one."""
        found = self.heavy("recipe", numbers)
        return {number: recipe for number, recipe in found.items() if isinstance(recipe, dict)}


def records_of_trials(study: optuna.Study, files: Path | None) -> Records:
    trials = study.get_trials(deepcopy=False)
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    keys = list(dict.fromkeys(key for trial in trials for key in trial.user_attrs if key not in HEAVY))
    distributions: dict[str, BaseDistribution] = {}
    for trial in trials:
        for name, found in trial.distributions.items():
            distributions[name] = wider(distributions[name], found) if name in distributions else found
    reports = [(trial.number, step, value) for trial in trials for step, value in trial.intermediate_values.items()]

    def heavy(key: str, numbers: Collection[int]) -> dict[int, Any]:
        return {number: trials[number].user_attrs[key] for number in numbers if key in trials[number].user_attrs}

    return Records(
        name=study.study_name,
        directions=tuple(direction.name for direction in study.directions),
        attributes=study.user_attrs,
        states=[trial.state.name for trial in trials],
        values=np.array([trial.values[0] if trial.values else np.nan for trial in trials], dtype=np.float64),
        started=pd.DatetimeIndex([trial.datetime_start or pd.NaT for trial in trials]),
        completed=pd.DatetimeIndex([trial.datetime_complete or pd.NaT for trial in trials]),
        notes={key: [trial.user_attrs.get(key) for trial in trials] for key in keys},
        parameters={name: [trial.params.get(name, pd.NA) for trial in trials] for name in names},
        distributions=distributions,
        reports=report_rows([row[0] for row in reports], [row[1] for row in reports], [row[2] for row in reports]),
        epochs=epoch_rows([], np.empty((0, len(EPOCH_COLUMNS) - 1))),
        files=files,
        heavy=heavy,
    )


def wider(one: BaseDistribution, other: BaseDistribution) -> BaseDistribution:
    """The range that holds both, where a range has changed within a study; choices never do.

    It has their step, if they have one in common and lie on the same steps.
    """
    if one == other or isinstance(one, CategoricalDistribution) or type(one) is not type(other):
        return one
    assert isinstance(one, (FloatDistribution, IntDistribution)) and isinstance(other, type(one))
    low, high = min(one.low, other.low), max(one.high, other.high)
    if isinstance(one, IntDistribution):
        step = one.step if one.step == other.step and (one.low - other.low) % one.step == 0 else 1
        return IntDistribution(int(low), int(high), log=one.log, step=step)
    if one.step is not None and one.step == other.step:
        apart = (Decimal(str(one.low)) - Decimal(str(other.low))) % Decimal(str(one.step))
        return FloatDistribution(low, high, step=None if apart else one.step)
    return FloatDistribution(low, high, log=one.log)


def report_rows(numbers: Sequence[int], steps: Sequence[int], values: Sequence[float]) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "trial": np.array(numbers, dtype=np.int64),
            "step": np.array(steps, dtype=np.int64),
            "value": np.array(values, dtype=np.float64),
        }
    )
    return _in_order(frame, "step")


def epoch_rows(numbers: Sequence[int], columns: Floats) -> pd.DataFrame:
    frame = pd.DataFrame(columns, columns=list(EPOCH_COLUMNS[1:]))
    frame["epoch"] = frame["epoch"].astype(np.int64)
    frame.insert(0, "trial", np.array(numbers, dtype=np.int64))
    return _in_order(frame, "epoch")


def _in_order(frame: pd.DataFrame, inner: str) -> pd.DataFrame:
    """Rows of trials of this study, by trial and within."""
    frame = frame[frame["trial"].to_numpy() >= 0]
    order = np.lexsort((frame[inner].to_numpy(), frame["trial"].to_numpy()))
    return frame.iloc[order].reset_index(drop=True)
