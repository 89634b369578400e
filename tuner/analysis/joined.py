"""Several studies as one, whose trials have the study among their parameters: so that `group_by` compares them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tuner.analysis.data import StudyData
from tuner.analysis.trials import cells, is_missing, marks
from tuner.recipe import flatten
from tuner.storage.records import Records
from tuner.storage.studies import WARM_START

STUDY = "study"
"""The parameter that tells which study a trial is of."""

NOT_HERE = "WAITING"
"""The state of trials that were taken over from an earlier study: they are no result of this one."""


@dataclass(frozen=True)
class JoinedRecords(Records):
    """Records of several studies, one behind the other: trial n of the k-th has the number `firsts[k]` + n."""

    parts: tuple[Records, ...] = ()
    firsts: tuple[int, ...] = ()

    def part(self, number: int) -> tuple[Records, int]:
        """The study that a trial is of, and its number there."""
        place = int(np.searchsorted(self.firsts, number, "right")) - 1
        return self.parts[place], number - self.firsts[place]

    def series(self, number: int) -> Path | None:
        """Where the per-step series of a trial lies in its own study."""
        part, inside = self.part(number)
        return part.series(inside)


def joined(studies: Sequence[StudyData], names: Sequence[str]) -> StudyData:
    """The trials of studies of one metric and direction as one study, which are told apart by the parameter `STUDY`.

    A parameter that a study did not search has the value of its recipe there; it is missing where there is none.
    """
    records = [data.records for data in studies]
    parameters: dict[str, list[Any]] = {
        STUDY: [name for name, part in zip(names, records, strict=True) for _ in range(len(part))]
    }
    for parameter in dict.fromkeys(name for data in studies for name in data.columns):
        parameters[parameter] = [value for data in studies for value in _values(data, parameter)]
    keys = dict.fromkeys(key for part in records for key in part.notes)
    space = {key: studies[0].space[key] for key in ("metric", "value") if key in studies[0].space}
    firsts = tuple(int(first) for first in np.cumsum([0, *map(len, records[:-1])]))
    return StudyData(
        JoinedRecords(
            name=", ".join(names),
            directions=records[0].directions,
            attributes={"space": {**space, "search": {STUDY: {"choices": list(names)}}}},
            states=[state for part in records for state in _states(part)],
            values=np.concatenate([part.values for part in records]),
            started=_stamps([part.started for part in records]),
            completed=_stamps([part.completed for part in records]),
            notes={key: [entry for part in records for entry in part.note(key)] for key in keys},
            parameters=parameters,
            distributions={},
            reports=_numbered([part.reports for part in records], firsts),
            epochs=_numbered([part.epochs for part in records], firsts),
            heavy=lambda key, numbers: _gathered(records, firsts, numbers, lambda part, own: part.heavy(key, own)),
            metrics=lambda numbers: _gathered(records, firsts, numbers, lambda part, own: part.metrics(own)),
            parts=tuple(records),
            firsts=firsts,
        )
    )


def _values(data: StudyData, parameter: str) -> list[Any]:
    """A parameter in every trial of a study."""
    if parameter in data.columns:
        return [pd.NA if is_missing(value) else value for value in cells(data.frame, data.columns[parameter])]
    return [flatten(data.recipe).get(parameter, pd.NA)] * len(data.records)


def _states(part: Records) -> list[str]:
    taken = marks(part, WARM_START)
    return [state if earlier is None else NOT_HERE for state, earlier in zip(part.states, taken, strict=True)]


def _stamps(parts: Sequence[pd.DatetimeIndex]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex([stamp for part in parts for stamp in part])


def _numbered(frames: Sequence[pd.DataFrame], firsts: Sequence[int]) -> pd.DataFrame:
    """Rows of trials, the trials numbered on."""
    moved = [frame.assign(trial=frame["trial"] + first) for frame, first in zip(frames, firsts, strict=True)]
    return pd.concat(moved, ignore_index=True)


def _gathered(
    records: Sequence[Records],
    firsts: Sequence[int],
    numbers: Collection[int],
    read: Callable[[Records, list[int]], dict[int, Any]],
) -> dict[int, Any]:
    """What each study has of those of the trials that are its own."""
    found: dict[int, Any] = {}
    for part, first in zip(records, firsts, strict=True):
        own = [number - first for number in numbers if first <= number < first + len(part)]
        found.update({number + first: entry for number, entry in read(part, own).items()} if own else {})
    return found
