"""The values of a parameter that were tried, as levels: one by one, or in quantile bins; and how each of them did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tuner.analysis.data import StudyData
from tuner.analysis.trials import cells, finite, is_missing, mean_of
from tuner.search_space.parameter import is_number

MOST_LEVELS = 8
"""Distinct numbers that are listed one by one; more are cut into quantile bins."""

BINS = 4


@dataclass(frozen=True)
class Level:
    """One value of a parameter, or all values from `low` to `high` that were tried (then `value` is None).

    `trials` are the trained trials there, those taken over from an earlier study among them; the shares (0 to 1) are
    of these and add up to 1. `mean` and `best` are over the `complete` ones, None where there are none.
    """

    value: Any
    low: float | None
    high: float | None
    trials: int
    complete: int
    mean: float | None
    best: float | None
    share_complete: float
    share_pruned: float
    share_diverged: float
    share_failed: float

    @property
    def is_range(self) -> bool:
        """Whether it stands for several values."""
        return self.low is not None


class Sample(NamedTuple):
    """A trained trial as one parameter sees it; `result` is its value if it completed, `place` tells it apart."""

    value: Any
    state: str
    result: float | None
    place: int = -1


def levels_by_parameter(data: StudyData) -> dict[str, tuple[Level, ...]]:
    """The levels of each searched parameter that was active in a trained trial."""
    found = {
        name: levels_of(data.trained, column, data.search.get(name, {}).get("choices", []), data.maximize)
        for name, column in data.columns.items()
    }
    return {name: levels for name, levels in found.items() if levels}


def levels_of(rows: pd.DataFrame, column: str, choices: Sequence[Any], maximize: bool) -> tuple[Level, ...]:
    """The levels of the parameter in `column` over trained trials, in order; `choices` are its values as written."""
    samples = samples_of(rows, column)
    return tuple(level_of(group, maximize) for group in levels_in(samples, choices)) if samples else ()


def samples_of(rows: pd.DataFrame, column: str) -> list[Sample]:
    """The trials in which a parameter was active."""
    entries = zip(cells(rows, column), cells(rows, "state"), cells(rows, "value"), strict=True)
    return [
        Sample(value, state, finite(result) if state == "complete" else None)
        for value, state, result in entries
        if not is_missing(value)
    ]


def levels_in(
    samples: Sequence[Sample], choices: Sequence[Any], most: int = MOST_LEVELS, bins: int = BINS
) -> list[list[Sample]]:
    """The samples by level: numbers ascending, in quantile bins where there are many; choices as written."""
    if all(is_number(sample.value) for sample in samples):
        distinct = sorted({sample.value for sample in samples})
        if len(distinct) > most:
            return _bins(samples, bins)
        return [[sample for sample in samples if sample.value == value] for value in distinct]
    groups: dict[str, list[Sample]] = {repr(choice): [] for choice in choices}
    for sample in sorted(samples, key=lambda entry: repr(entry.value)):
        groups.setdefault(repr(sample.value), []).append(sample)
    return [group for group in groups.values() if group]


def _bins(samples: Sequence[Sample], count: int) -> list[list[Sample]]:
    """The samples in up to `count` bins of about equal size; a value on an edge falls into the lower bin."""
    values = [float(sample.value) for sample in samples]
    edges = [float(edge) for edge in np.quantile(values, np.linspace(0, 1, count + 1)[1:-1])]
    bounds = [-math.inf, *edges, math.inf]
    groups = [[sample for sample in samples if low < float(sample.value) <= high] for low, high in pairwise(bounds)]
    return [group for group in groups if group]


def level_of(group: Sequence[Sample], maximize: bool) -> Level:
    """The samples of one level, summed up."""
    results = [sample.result for sample in group if sample.result is not None]
    states = [sample.state for sample in group]
    share = {state: states.count(state) / len(states) for state in ("complete", "pruned", "diverged", "failed")}
    first = group[0].value
    several = any(sample.value != first for sample in group)
    return Level(
        value=None if several else first,
        low=min(sample.value for sample in group) if several else None,
        high=max(sample.value for sample in group) if several else None,
        trials=len(group),
        complete=len(results),
        mean=mean_of(results) if results else None,
        best=(max(results) if maximize else min(results)) if results else None,
        share_complete=share["complete"],
        share_pruned=share["pruned"],
        share_diverged=share["diverged"],
        share_failed=share["failed"],
    )
