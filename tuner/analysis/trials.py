"""Trials -> a pandas frame: one row a trial, one column an attribute or searched parameter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import UsageError
from tuner.search_space.parameter import Choices, is_number

STATES = ("complete", "pruned", "diverged", "failed", "infeasible", "duplicate", "running", "waiting")
"""What became of a trial; `diverged` is PRUNED in Optuna, `infeasible` and `duplicate` are not counted."""

COUNTED = ("complete", "pruned", "diverged", "failed")
"""The states that count towards `trials` of a budget (contract C3)."""

NUMBERS = (
    "gap", "final_train_loss", "final_val_loss", "best_train_loss", "best_val_loss",
)  # fmt: skip
COUNTS = ("best_epoch", "epochs_done", "epochs_asked", "duplicate_of")
TEXTS = ("reason", "enqueued", "infeasible", "traceback", "weights")
FIXED_COLUMNS = (
    "number", "state", "counted", "value", *NUMBERS, *COUNTS, "seconds", *TEXTS, "diverged", "recipe",
)  # fmt: skip
"""The columns that every frame has; those of the parameters follow."""

_PREFIX = "params_"


def trials_frame(study: optuna.Study) -> pd.DataFrame:
    """One row a trial, in order of their numbers: `FIXED_COLUMNS`, then one column a searched parameter.

    `value` is what Optuna stored, NaN where there is none; `seconds` is the training time, or Optuna's
    duration where a plain objective recorded none. A parameter's values are decoded to the recipe's own;
    they are missing (NaN or `pd.NA`) where the parameter was not active, while None is a value. A parameter
    named as a fixed column stands under `params_NAME`.
    Raises `UsageError` for a study with several objectives.
    """
    if len(study.directions) != 1:
        raise UsageError(
            "only studies with one objective can be analyzed",
            place=study.study_name,
            value=len(study.directions),
        )
    trials = study.get_trials(deepcopy=False)
    columns = {name: _fixed_column(name, trials) for name in FIXED_COLUMNS}
    search = searched(study)
    for parameter in _parameters(search, trials):
        choices = _choices(parameter, search)
        values = [_decoded(trial.params.get(parameter, pd.NA), choices) for trial in trials]
        columns[column_of(parameter)] = _series(values)
    return pd.DataFrame(columns)


def searched(study: optuna.Study) -> dict[str, dict[str, Any]]:
    """The stored search: its description by path; empty for a plain objective."""
    space = study.user_attrs.get("space")
    search = space.get("search") if isinstance(space, Mapping) else None
    return {str(path): dict(entry) for path, entry in search.items()} if isinstance(search, Mapping) else {}


def column_of(parameter: str) -> str:
    """The column a parameter stands in."""
    return _PREFIX + parameter if parameter in FIXED_COLUMNS or parameter.startswith(_PREFIX) else parameter


def parameters_of(frame: pd.DataFrame) -> dict[str, str]:
    """The parameters of a frame and the columns they stand in, in order."""
    columns = [str(name) for name in frame.columns if name not in FIXED_COLUMNS]
    return {name.removeprefix(_PREFIX): name for name in columns}


def is_missing(value: object) -> bool:
    """Whether a cell holds nothing: `pd.NA` or NaN. None is a value that a parameter can have."""
    return value is pd.NA or (isinstance(value, float) and math.isnan(value))


def finite(value: object) -> float | None:
    """`value` as a finite float, or None where it is none."""
    return float(value) if is_number(value) and math.isfinite(value) else None  # type: ignore[arg-type]


def cells(frame: pd.DataFrame, column: str) -> list[Any]:
    """A column as plain Python values, top to bottom."""
    return list(frame[column].tolist())


def state_of(trial: FrozenTrial) -> str:
    """One of `STATES`."""
    attributes = trial.user_attrs
    if not trial.state.is_finished():
        return "running" if trial.state == TrialState.RUNNING else "waiting"
    if attributes.get("infeasible") is not None:
        return "infeasible"
    if attributes.get("duplicate_of") is not None:
        return "duplicate"
    if trial.state == TrialState.PRUNED:
        return "diverged" if attributes.get("diverged") else "pruned"
    return "complete" if trial.state == TrialState.COMPLETE else "failed"


def _fixed_column(name: str, trials: Sequence[FrozenTrial]) -> pd.Series[Any]:
    if name == "number":
        return pd.Series([trial.number for trial in trials], dtype="int64")
    if name == "state":
        return pd.Series([state_of(trial) for trial in trials], dtype=object)
    if name == "counted":
        return pd.Series([state_of(trial) in COUNTED for trial in trials], dtype=bool)
    if name == "value":
        return pd.Series([_number(trial.value) for trial in trials], dtype="float64")
    if name == "seconds":
        return pd.Series([_seconds(trial) for trial in trials], dtype="float64")
    if name == "diverged":
        return pd.Series([bool(trial.user_attrs.get(name)) for trial in trials], dtype=bool)
    given = [trial.user_attrs.get(name) for trial in trials]
    if name in NUMBERS:
        return pd.Series([_number(entry) for entry in given], dtype="float64")
    if name in COUNTS:
        return pd.Series([entry if is_number(entry) else pd.NA for entry in given], dtype="Int64")
    if name in TEXTS:
        return pd.Series([None if entry is None else str(entry) for entry in given], dtype=object)
    return pd.Series(given, dtype=object)


def _number(value: object) -> float:
    return float(value) if is_number(value) else math.nan  # type: ignore[arg-type]


def _seconds(trial: FrozenTrial) -> float:
    """The recorded training time; for a plain objective, how long Optuna saw the trial run."""
    recorded = trial.user_attrs.get("seconds")
    if (
        recorded is None
        and trial.state.is_finished()
        and "recipe" not in trial.user_attrs
        and trial.duration is not None
    ):
        return trial.duration.total_seconds()
    return _number(recorded)


def _parameters(search: Mapping[str, Any], trials: Sequence[FrozenTrial]) -> Iterator[str]:
    """The searched parameters as written, then those that only trials know, as they first appear."""
    return iter(dict.fromkeys([*search, *(name for trial in trials for name in trial.params)]))


def _choices(parameter: str, search: Mapping[str, Mapping[str, Any]]) -> Choices | None:
    """The parameter's choices where Optuna stores their index."""
    written = search.get(parameter, {}).get("choices")
    choices = Choices(parameter, {}, tuple(written)) if isinstance(written, list) else None
    return choices if choices is not None and choices.by_index else None


def _decoded(stored: Any, choices: Choices | None) -> Any:
    if stored is pd.NA or choices is None:
        return stored
    return choices.decode(stored) if stored in range(len(choices.choices)) else stored


def _series(values: list[Any]) -> pd.Series[Any]:
    """A column whose type keeps every value as it is: ints stay ints, what is mixed stays mixed."""
    kinds = {type(value) for value in values if value is not pd.NA}
    if kinds == {float}:
        return pd.Series([math.nan if value is pd.NA else value for value in values], dtype="float64")
    if kinds == {int} and all(value is pd.NA or abs(value) < 2**63 for value in values):
        return pd.Series(values, dtype="Int64" if any(value is pd.NA for value in values) else "int64")
    column = pd.Series([None] * len(values), dtype=object)
    for row, value in enumerate(values):
        column.iat[row] = value  # one by one: pandas would spread a list over several rows
    return column
