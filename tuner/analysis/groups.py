"""Recipes compared over seeds: the complete trials by one searched parameter, and what tells its levels apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from tuner.analysis.data import StudyData
from tuner.analysis.measures import Better, Kind, Measure, PhaseMeasure, once, results
from tuner.analysis.significance import (
    LevelMean,
    Tested,
    compare_levels,
    compare_pairs,
    holm,
    level_mean,
)
from tuner.analysis.steadiness import steadiness
from tuner.analysis.trials import COUNTED, cells, column_of, is_missing
from tuner.errors import UsageError, did_you_mean
from tuner.search_space.parameter import is_number


@dataclass(frozen=True)
class GroupLevel:
    """One value of the parameter, and the numbers of the complete trials that have it.

    `incomplete` counts its trials that were pruned, diverged or failed: where there are many, the complete ones are
    a chosen few.
    """

    value: Any
    trials: tuple[int, ...]
    incomplete: int


@dataclass(frozen=True)
class Comparison:
    """One measure over the levels: their means, in the levels' order, and what a test between them found.

    `values` are the trials' own, by number. `p_adjusted` is the p-value after Holm, over all measures that were
    tested; `better` is None where neither side is known to be better; `also` names measures equal to this one in
    every trial.
    """

    measure: str
    kind: Kind
    better: Better | None
    levels: tuple[LevelMean, ...]
    tested: Tested
    values: dict[int, float]
    p_adjusted: float | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class PhaseMeans:
    """A measure of steadiness within one phase, over the levels; described, not tested."""

    phase: str
    measure: str
    levels: tuple[LevelMean, ...]


@dataclass(frozen=True)
class Groups:
    """The levels of a parameter compared on every measure.

    `paired_by` names the searched values that pair the trials of two levels one to one (None: they do not), and
    `unpaired` the trials that have no partner. `inactive` complete trials have no value of the parameter. `lost` are
    the values of which no trial is complete. `notes` say what is missing or measured otherwise.
    """

    parameter: str
    levels: tuple[GroupLevel, ...]
    lost: tuple[GroupLevel, ...]
    comparisons: tuple[Comparison, ...]
    phases: tuple[PhaseMeans, ...]
    paired_by: tuple[str, ...] | None
    unpaired: tuple[int, ...]
    inactive: int
    notes: tuple[str, ...]

    @property
    def tested(self) -> int:
        """How many measures were tested, which Holm's adjustment is over."""
        return sum(entry.p_adjusted is not None for entry in self.comparisons)


@dataclass(frozen=True)
class Pairing:
    """Pairs of trial numbers, the first level's and the second's; `by` and `unpaired` as in `Groups`."""

    pairs: tuple[tuple[int, int], ...]
    by: tuple[str, ...]
    unpaired: tuple[int, ...]


def group_by(data: StudyData, parameter: str) -> Groups:
    """Compare the levels of `parameter` over the complete trials of a study.

    The last part of a path will do where it is the only such. Raises `UsageError` for a parameter that was not
    searched.
    """
    columns = data.columns
    alike = [name for name in columns if name.rpartition(".")[2] == parameter]
    if parameter not in columns and len(alike) == 1:
        (parameter,) = alike
    if parameter not in columns:
        rule = "no such parameter was searched" if columns else "no parameter was searched"
        raise UsageError(rule, place="--group-by", value=parameter, hint=did_you_mean(parameter, columns))
    active = data.rows([not is_missing(value) for value in cells(data.frame, column_of(parameter))])
    every_level = _levels(data, active, parameter)
    levels = tuple(level for level in every_level if level.trials)
    pairing = pair_up(levels, active, columns, parameter)
    numbers = sorted(number for level in levels for number in level.trials)
    runs = steadiness(data, numbers)
    found = once([*results(data, numbers, runs.terms), *runs.measures])
    return Groups(
        parameter=parameter,
        levels=levels,
        lost=tuple(level for level in every_level if not level.trials and level.incomplete),
        comparisons=tuple(compared(found, [level.trials for level in levels], pairing)),
        phases=tuple(_phase_means(entry, levels) for entry in runs.phases),
        paired_by=None if pairing is None else pairing.by,
        unpaired=() if pairing is None else pairing.unpaired,
        inactive=len(data.complete) - len(numbers),
        notes=tuple(runs.notes),
    )


def _levels(data: StudyData, rows: pd.DataFrame, parameter: str) -> tuple[GroupLevel, ...]:
    """The values that trials have: numbers ascending, else choices as written, then the rest by name."""
    complete = {*cells(data.complete, "number")}
    found: dict[str, list[tuple[Any, int, bool]]] = {}
    for value, number, state in zip(
        cells(rows, column_of(parameter)), cells(rows, "number"), cells(rows, "state"), strict=True
    ):
        found.setdefault(repr(value), []).append((value, number, state in COUNTED))
    levels = [
        GroupLevel(
            value=entries[0][0],
            trials=tuple(sorted(number for _, number, _ in entries if number in complete)),
            incomplete=sum(trained and number not in complete for _, number, trained in entries),
        )
        for entries in found.values()
    ]
    if all(is_number(level.value) for level in levels):
        return tuple(sorted(levels, key=lambda level: float(level.value)))
    written = [repr(choice) for choice in data.search.get(parameter, {}).get("choices", [])]
    place = {name: rank for rank, name in enumerate([*written, *sorted({*found} - {*written})])}
    return tuple(sorted(levels, key=lambda level: place[repr(level.value)]))


def pair_up(
    levels: Sequence[GroupLevel], rows: pd.DataFrame, columns: Mapping[str, str], parameter: str
) -> Pairing | None:
    """Pairs of trials of two levels that were asked for the same in all else that was searched.

    None unless every trial of one level has one partner in the other: then what has none there, since its partner
    was pruned or failed, is `unpaired`. `rows` hold at least the trials of the levels.
    """
    others = {name: column for name, column in columns.items() if name != parameter}
    if len(levels) != 2 or not others:
        return None
    kept = {number for level in levels for number in level.trials}
    rows = rows[rows["number"].isin(kept)]
    numbers, values = cells(rows, "number"), [cells(rows, column) for column in others.values()]
    keys = {number: repr([entry[place] for entry in values]) for place, number in enumerate(numbers)}
    first, second = ({keys[number]: number for number in level.trials} for level in levels)
    whole = all(len(side) == len(level.trials) for side, level in zip((first, second), levels, strict=True))
    shared = [key for key in first if key in second]
    if not whole or len(shared) < min(len(first), len(second)):
        return None
    varied = tuple(name for name, column in others.items() if len({*map(repr, cells(rows, column))}) > 1)
    alone = [side[key] for side in (first, second) for key in side if key not in shared]
    return Pairing(tuple((first[key], second[key]) for key in shared), varied, tuple(sorted(alone)))


def compared(measures: Sequence[Measure], levels: Sequence[Sequence[int]], pairing: Pairing | None) -> list[Comparison]:
    """Each measure over the levels (the trial numbers of each), p-values adjusted for their number."""
    found = [_comparison(entry, levels, pairing) for entry in measures]
    chances = [entry.tested.p for entry in found if entry.tested.p is not None]
    adjusted = iter(holm(chances))
    return [entry if entry.tested.p is None else replace(entry, p_adjusted=next(adjusted)) for entry in found]


def _comparison(entry: Measure, levels: Sequence[Sequence[int]], pairing: Pairing | None) -> Comparison:
    by_level = [_values(entry, level) for level in levels]
    if pairing is None:
        tested = compare_levels(by_level)
    else:
        have = [pair for pair in pairing.pairs if entry.values.keys() >= {*pair}]
        tested = compare_pairs([(entry.values[first], entry.values[second]) for first, second in have])
    means = tuple(level_mean(values) for values in by_level)
    return Comparison(entry.name, entry.kind, entry.better, means, tested, entry.values, also=entry.also)


def _values(entry: Measure | PhaseMeasure, level: Sequence[int]) -> list[float]:
    return [entry.values[number] for number in level if number in entry.values]


def _phase_means(entry: PhaseMeasure, levels: Sequence[GroupLevel]) -> PhaseMeans:
    means = tuple(level_mean(_values(entry, level.trials)) for level in levels)
    return PhaseMeans(entry.phase, entry.name, means)
