"""Trials -> a pandas frame: one row a trial, one column an attribute or searched parameter."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tuner.errors import UsageError
from tuner.search_space.parameter import Choices, is_number
from tuner.storage.records import Records
from tuner.storage.studies import WARM_START

STATES = ("complete", "pruned", "diverged", "failed", "infeasible", "duplicate", "running", "waiting")
"""What became of a trial; `diverged` is PRUNED in Optuna, or COMPLETE with a value that is not finite; `infeasible` and
`duplicate` are not counted."""

COUNTED = ("complete", "pruned", "diverged", "failed")
"""The states of trials that were trained; they count towards `trials` of a budget (contract C3), unless they were taken
over from an earlier study."""

NUMBERS = (
    "gap", "final_train_loss", "final_val_loss", "best_train_loss", "best_val_loss",
)  # fmt: skip
COUNTS = ("best_epoch", "epochs_done", "epochs_asked", "duplicate_of")
TEXTS = ("reason", "enqueued", "infeasible", "weights")
FIXED_COLUMNS = (
    "number", "state", "counted", "value", *NUMBERS, *COUNTS, "seconds", "started", "completed", *TEXTS, "diverged",
    WARM_START,
)  # fmt: skip
"""The columns that every frame has; those of the parameters follow."""

_PREFIX = "params_"
_MARKS: Mapping[str, Callable[[object], bool]] = {
    "infeasible": lambda entry: isinstance(entry, str),
    "duplicate_of": lambda entry: _whole(entry) is not None,
    "diverged": lambda entry: isinstance(entry, bool | np.bool_) and bool(entry),
    WARM_START: lambda entry: isinstance(entry, Mapping),
}
"""The user attributes that say what a trial is, and which of their values do: others may mean something else."""


def trials_frame(records: Records) -> pd.DataFrame:
    """One row a trial, in order of their numbers: `FIXED_COLUMNS`, then one column a searched parameter.

    `value` is what Optuna stored, NaN where there is none; `seconds` is the training time, or Optuna's
    duration where none was recorded. A parameter's values are decoded to the recipe's own;
    they are missing (NaN or `pd.NA`) where the parameter was not active, while None is a value. A parameter
    named as a fixed column stands under `params_NAME`.
    Raises `UsageError` for a study with several objectives.
    """
    if len(records.directions) != 1:
        raise UsageError(
            "only studies with one objective can be analyzed",
            place=records.name,
            value=len(records.directions),
        )
    columns = _fixed_columns(records)
    search = searched(records)
    for parameter in dict.fromkeys([*search, *records.parameters]):
        values = records.parameters.get(parameter) or [pd.NA] * len(records)
        choices = _choices(parameter, search)
        columns[column_of(parameter)] = _series([_decoded(value, choices) for value in values] if choices else values)
    return pd.DataFrame(columns)


def searched(records: Records) -> dict[str, dict[str, Any]]:
    """The stored search: its description by path; empty for a plain objective.

    What another program stored under the same name, and is no description, is left out.
    """
    space = records.attributes.get("space")
    search = space.get("search") if isinstance(space, Mapping) else None
    entries = search.items() if isinstance(search, Mapping) else ()
    return {
        str(path): dict(entry)
        for path, entry in entries
        if isinstance(entry, Mapping) and isinstance(entry.get("choices", []), list)
    }


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


def differ(values: Iterable[object]) -> bool:
    """Whether cells differ; 1, 1.0 and True do, and a cell that holds nothing from any other."""
    names = ("" if is_missing(value) else repr(value) for value in values)
    first = next(names, "")
    return any(name != first for name in names)


def finite(value: object) -> float | None:
    """`value` as a finite float, or None where it is none, or an integer beyond any."""
    try:
        number = float(value) if is_number(value) else math.nan  # type: ignore[arg-type]
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def mean_of(values: Sequence[float]) -> float:
    """The mean, of values too whose sum is beyond any float."""
    try:
        return statistics.fmean(values)
    except OverflowError:
        return math.fsum(value / len(values) for value in values)


def cells(frame: pd.DataFrame, column: str) -> list[Any]:
    """A column as plain Python values, top to bottom."""
    return list(frame[column].tolist())


def even(entries: Sequence[int], most: int) -> list[int]:
    """At most so many entries, evenly spread, with the first and the last."""
    if len(entries) <= most:
        return list(entries)
    return [entries[place] for place in np.unique(np.linspace(0, len(entries) - 1, most).round().astype(int))]


def states_of(records: Records) -> list[str]:
    """What became of each trial, one of `STATES`."""
    notes = (marks(records, key) for key in ("infeasible", "duplicate_of", "diverged"))
    return [_state(*entry) for entry in zip(records.states, records.values.tolist(), *notes, strict=True)]


def marks(records: Records, key: str) -> list[Any]:
    """A user attribute that says what a trial is, None too where its value is not of the kind that tuner writes."""
    return [entry if _MARKS[key](entry) else None for entry in records.note(key)]


def _state(state: str, value: float, infeasible: object, duplicate_of: object, diverged: object) -> str:
    if state in ("RUNNING", "WAITING"):
        return state.lower()
    if infeasible is not None:
        return "infeasible"
    if duplicate_of is not None:
        return "duplicate"
    if state == "PRUNED":
        return "diverged" if diverged else "pruned"
    if state == "COMPLETE":
        return "complete" if math.isfinite(value) else "diverged"
    return "failed"


def _fixed_columns(records: Records) -> dict[str, pd.Series[Any]]:
    states = states_of(records)
    found: dict[str, pd.Series[Any]] = {
        "number": pd.Series(range(len(states)), dtype="int64"),
        "state": pd.Series(states, dtype=object),
        "counted": pd.Series(
            [
                state in COUNTED and earlier is None
                for state, earlier in zip(states, marks(records, WARM_START), strict=True)
            ],
            dtype=bool,
        ),
        "value": pd.Series(records.values, dtype="float64"),
    }
    for name in (*NUMBERS, *COUNTS, *TEXTS):
        given = marks(records, name) if name in _MARKS else records.note(name)
        if name in NUMBERS:
            found[name] = pd.Series([_number(entry) for entry in given], dtype="float64")
        elif name in COUNTS:
            found[name] = pd.Series(
                [pd.NA if (whole := _whole(entry)) is None else whole for entry in given], dtype="Int64"
            )
        else:
            found[name] = pd.Series([None if entry is None else str(entry) for entry in given], dtype=object)
    found["started"], found["completed"] = pd.Series(records.started), pd.Series(records.completed)
    found["seconds"] = _seconds(records, states)
    told = pd.Series([entry is not None for entry in marks(records, "diverged")], dtype=bool)
    found["diverged"] = told | (found["state"] == "diverged")
    found["reason"] = found["reason"].mask(
        found["reason"].isna() & found["diverged"] & ~told, "its value is not finite"
    )
    found[WARM_START] = pd.Series(marks(records, WARM_START), dtype=object)
    return {name: found[name] for name in FIXED_COLUMNS}


def _number(value: object) -> float:
    try:
        return float(value) if is_number(value) else math.nan  # type: ignore[arg-type]
    except OverflowError:
        return math.nan


def _whole(value: object) -> int | None:
    """`value` where it is a whole number that a column of counts can hold."""
    number = _number(value)
    return int(value) if number.is_integer() and abs(number) < 2**63 else None  # type: ignore[call-overload]


def _seconds(records: Records, states: Sequence[str]) -> pd.Series[Any]:
    """The recorded training time; where none is, as in studies of other programs, how long Optuna saw a trial run."""
    seen = pd.Series(records.completed - records.started).dt.total_seconds()
    recorded = pd.Series([_number(entry) for entry in records.note("seconds")], dtype="float64")
    return recorded.where(recorded.notna() | ~pd.Series([state in COUNTED for state in states], dtype=bool), seen)


def _choices(parameter: str, search: Mapping[str, Mapping[str, Any]]) -> Choices | None:
    """The parameter's choices where Optuna stores their index."""
    written = search.get(parameter, {}).get("choices")
    choices = Choices(parameter, {}, tuple(written)) if isinstance(written, list) else None
    return choices if choices is not None and choices.by_index else None


def _decoded(stored: Any, choices: Choices) -> Any:
    if stored is pd.NA:
        return stored
    return choices.decode(stored) if stored in range(len(choices.choices)) else stored


def _series(values: Sequence[Any]) -> pd.Series[Any]:
    """A column whose type keeps every value as it is: ints stay ints, what is mixed stays mixed."""
    kinds = {type(value) for value in values if value is not pd.NA}
    if kinds == {float}:
        return pd.Series([math.nan if value is pd.NA else value for value in values], dtype="float64")
    if kinds == {int} and all(value is pd.NA or abs(value) < 2**63 for value in values):
        return pd.Series(values, dtype="Int64" if any(value is pd.NA for value in values) else "int64")
    column = np.empty(len(values), dtype=object)  # filled one by one: a list among them would be spread over rows
    for row, value in enumerate(values):
        column[row] = value
    return pd.Series(column, dtype=object)
