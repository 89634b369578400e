"""Pairs of parameters whose effects depend on one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.analysis.data import StudyData
from tuner.analysis.effects import EffectModel
from tuner.analysis.importance import Importances
from tuner.analysis.levels import Level, Sample, level_of, levels_in
from tuner.analysis.trials import cells, is_missing, mean_of

MOST_PAIRS = 3
"""So many of the strongest pairs are shown."""

MOST_LEVELS, BINS = 4, 3
"""A pair's table has as many levels a side, numbers in quantile bins."""


@dataclass(frozen=True)
class Cell:
    """The complete trials with one level of each of two parameters; the mean is None where there are none."""

    trials: int
    mean: float | None


@dataclass(frozen=True)
class Interaction:
    """Two parameters, and the mean value at each pair of their levels: `cells` has a row a level of `first`.

    `share` is the part of the variance (0 to 1) that the pair explains beyond its two; `p`, adjusted for the number of
    pairs, tells how likely chance would explain as much.
    """

    first: str
    second: str
    share: float
    p: float
    sure: bool
    rows: tuple[Level, ...]
    columns: tuple[Level, ...]
    cells: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Interactions:
    """The strongest of the `tested` pairs, strongest first."""

    pairs: tuple[Interaction, ...]
    tested: int


def interactions(data: StudyData, model: EffectModel, told: Importances) -> Interactions:
    """The strongest pairs: those that are sure before the others, then by share.

    `model` is that of the trials' scores; on a complete grid the exact shares of `told` stand in place of its own.
    """
    ranked = sorted(model.pairs, key=lambda pair: (not pair.sure, pair.p, -pair.share))
    found = []
    for pair in ranked[:MOST_PAIRS]:
        share = told.pairs.get((pair.first, pair.second), told.pairs.get((pair.second, pair.first), pair.share))
        rows, columns, table = _table(data, pair.first, pair.second)
        found.append(Interaction(pair.first, pair.second, share, pair.p, pair.sure, rows, columns, table))
    return Interactions(tuple(found), len(model.pairs))


def _table(
    data: StudyData, first: str, second: str
) -> tuple[tuple[Level, ...], tuple[Level, ...], tuple[tuple[Cell, ...], ...]]:
    """Levels of both, and the complete trials in each pair of them."""
    complete = data.complete
    sides = [cells(complete, data.columns[name]) for name in (first, second)]
    both = [place for place, pair in enumerate(zip(*sides, strict=True)) if not any(map(is_missing, pair))]
    results = [float(value) for value in cells(complete, "value")]
    groups = []
    for name, side in zip((first, second), sides, strict=True):
        samples = [Sample(side[place], "complete", results[place], place) for place in both]
        choices = data.search.get(name, {}).get("choices", [])
        every = levels_in(samples, choices, MOST_LEVELS, BINS)
        largest = sorted(range(len(every)), key=lambda place: -len(every[place]))[:MOST_LEVELS]
        groups.append([every[place] for place in sorted(largest)])
    table = tuple(tuple(_cell(row, column) for column in groups[1]) for row in groups[0])
    rows, columns = (tuple(level_of(group, data.maximize) for group in side) for side in groups)
    return rows, columns, table


def _cell(row: Sequence[Sample], column: Sequence[Sample]) -> Cell:
    shared = {sample.place for sample in row}.intersection(sample.place for sample in column)
    values = [sample.result for sample in row if sample.place in shared and sample.result is not None]
    return Cell(len(values), mean_of(values) if values else None)
