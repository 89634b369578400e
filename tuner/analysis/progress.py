"""A study's best value so far, against its trials and against the time that it ran.

stamps of trials --running--> seconds when each ended --progress_of--> steps of the best value
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.analysis.data import StudyData
from tuner.analysis.trials import cells, finite
from tuner.storage.studies import WARM_START

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Progress:
    """The best value so far, a step for each time it changed, and one for the end of the study.

    After `trials[k]` ended trials, `seconds[k]` of wall time into the study, it became `values[k]` (None: there is none
    yet). The trials are those that count towards the budget (complete, pruned, diverged, failed), in the order in which
    they ended; trials that were taken over from an earlier study stand at 0. `seconds` are None where trials have no
    times. `ended` is the number of trials, `wall_seconds` the time in all (see `wall_clock`).
    """

    trials: tuple[int, ...]
    seconds: tuple[float | None, ...]
    values: tuple[float | None, ...]
    ended: int
    wall_seconds: float | None

    def after(self, trials: float) -> float | None:
        """The best value after so many trials."""
        return self._last([count <= trials for count in self.trials])

    def at(self, seconds: float) -> float | None:
        """The best value after so many seconds of wall time."""
        return self._last([time is not None and time <= seconds for time in self.seconds])

    def _last(self, reached: list[bool]) -> float | None:
        known = [value for value, there in zip(self.values, reached, strict=True) if there]
        return known[-1] if known else None


def wall_clock(started: pd.DatetimeIndex, completed: pd.DatetimeIndex, limit: float | None = None) -> Floats:
    """How many seconds a study had run when each trial ended; NaN for a trial without times.

    A study runs while any of its trials does: their times from start to end are laid over one another, and stretches
    in which none was running, as between one run of the study and the next, do not count. Trials may also be in flight
    when a run is broken off, and go on a day later. So where the study has counted for itself how long all its runs
    took (`limit`, in seconds), stretches between two stamps (a trial starts or ends) that make the sum exceed it are
    cut, the longest first, all to one length.
    """
    found = np.full(len(started), np.nan)
    known = np.asarray(started.notna()) & np.asarray(completed.notna())
    if not known.any():
        return found
    begin, end = _seconds(started[known], started[known].min()), _seconds(completed[known], started[known].min())
    begin = np.minimum(begin, end)  # a clock that was turned back
    stamps = np.unique(np.concatenate([begin, end]))
    running = np.searchsorted(np.sort(begin), stamps, "right") - np.searchsorted(np.sort(end), stamps, "right")
    lengths = np.where(running[:-1] > 0, np.diff(stamps), 0.0)
    passed = np.concatenate([[0.0], np.cumsum(_cut(lengths, limit))])
    found[known] = passed[np.searchsorted(stamps, end)]
    return found


def _seconds(times: pd.DatetimeIndex, since: pd.Timestamp) -> Floats:
    return np.asarray((times - since).total_seconds(), dtype=np.float64)


def _cut(lengths: Floats, limit: float | None) -> Floats:
    """The longest of `lengths` cut to one length, so that all together are no more than `limit`."""
    if limit is None or limit < 0 or lengths.sum() <= limit:
        return lengths
    ordered = np.sort(lengths)
    kept = np.concatenate([[0.0], np.cumsum(ordered)[:-1]])  # what those shorter than each take
    level = (limit - kept) / np.arange(len(ordered), 0, -1)
    return np.asarray(np.minimum(lengths, level[int(np.argmax(level <= ordered))]), dtype=np.float64)


def progress_of(data: StudyData) -> Progress:
    """The best value so far of a study's complete trials; see `Progress`."""
    frame, records = data.frame, data.records
    used = finite(records.attributes.get("seconds_used"))
    here = frame["counted"].to_numpy(dtype=bool)
    clock = np.full(len(frame), np.nan)
    clock[here] = wall_clock(records.started[here], records.completed[here], used)
    ended = frame[here].assign(clock=clock[here]).sort_values(["completed", "number"], na_position="last")
    best = _best([_value(row) for row in _rows(frame[frame[WARM_START].notna()])], data)
    steps: list[tuple[int, float | None, float | None]] = [(0, 0.0, best)]
    for count, (row, time) in enumerate(zip(_rows(ended), cells(ended, "clock"), strict=True), start=1):
        value = _value(row)
        if value is not None and (best is None or data.better(value, best)):
            best = value
            steps.append((count, finite(time), best))
    last = finite(ended["clock"].max()) if len(ended) else None
    if steps[-1][0] < len(ended):
        steps.append((len(ended), last, best))
    trials, seconds, values = zip(*steps, strict=True)
    return Progress(trials, seconds if last is not None else (None,) * len(steps), values, len(ended), last)


def _rows(frame: pd.DataFrame) -> list[tuple[str, object]]:
    return list(zip(cells(frame, "state"), cells(frame, "value"), strict=True))


def _value(row: tuple[str, object]) -> float | None:
    """A complete trial's value."""
    return finite(row[1]) if row[0] == "complete" else None


def _best(values: list[float | None], data: StudyData) -> float | None:
    known = [value for value in values if value is not None]
    return (max(known) if data.maximize else min(known)) if known else None
