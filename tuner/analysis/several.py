"""Several studies side by side: which is ahead, with what settings, and whether that is more than chance."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from tuner.analysis import TOP, Analysis, analyze_data
from tuner.analysis.confirmation import Candidate, Confirmation
from tuner.analysis.data import StudyData
from tuner.analysis.groups import Groups, group_by
from tuner.analysis.joined import joined
from tuner.analysis.overfitting import GAP_THRESHOLDS
from tuner.analysis.progress import Progress, progress_of
from tuner.analysis.significance import FEWEST, LevelMean, Tested, compare_levels, compare_pairs, holm, level_mean
from tuner.errors import UsageError
from tuner.recipe import flatten

SHARES = (0.1, 0.25, 0.5, 1.0)
"""Where studies are compared: at these shares of the shortest one, then at each longer one's end."""


@dataclass(frozen=True)
class Side:
    """What one study adds to its own analysis: mean and spread of its top trials, and its progress.

    `deviation` is the sample standard deviation of the `top` best complete trials, None of fewer than two.
    `wall_seconds` is how long it ran, pauses between runs left out (see progress.py).
    """

    study: str
    top: int
    mean: float | None
    deviation: float | None
    wall_seconds: float | None
    progress: Progress


@dataclass(frozen=True)
class Point:
    """The best values so far at one number of trials, or of seconds: `at`; in the studies' order.

    A value is None where a study has none yet, or had ended before. `ahead` names the study with the best one, None
    where the best are equal, or where `shared` is false: some study had ended before.
    """

    at: float
    values: tuple[float | None, ...]
    ahead: str | None
    shared: bool


@dataclass(frozen=True)
class Setting:
    """A value of the recipe that differs between the studies' best trials, by study; one that has none is left out."""

    parameter: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """The best settings of two studies over fresh seeds: each one's winner of `tuner confirm`, on `split`.

    `split` is `test` where both were scored there on one metric, else `validation`. `tested` is the first less the
    second: by paired t over the seeds that both have where task and data are the same, else by Welch's t. `p_adjusted`
    is adjusted for the number of pairs of studies (Holm). `better` names the study with the better mean, None where
    they are equal.
    """

    first: str
    second: str
    first_trial: int
    second_trial: int
    metric: str
    split: Literal["validation", "test"]
    first_mean: LevelMean
    second_mean: LevelMean
    better: str | None
    tested: Tested
    p_adjusted: float | None = None


@dataclass(frozen=True)
class Several:
    """Studies compared: `studies` are their analyses, `sides` what is beside them, in the same order.

    `by_trials` compares at equal numbers of trials, `by_seconds` at equal wall time. `differences` are of the studies
    that were confirmed; `unconfirmed` names those that `tuner confirm` could confirm, `unconfirmable` the others.
    `groups` compares levels over the trials of all studies, numbered on from one study to the next: `first_trials` are
    the numbers that their first trials have there. `notes` say what makes the comparison less than even.
    """

    metric: str
    direction: str
    studies: tuple[Analysis, ...]
    sides: tuple[Side, ...]
    by_trials: tuple[Point, ...]
    by_seconds: tuple[Point, ...]
    settings: tuple[Setting, ...]
    differences: tuple[Difference, ...]
    unconfirmed: tuple[str, ...]
    unconfirmable: tuple[str, ...]
    first_trials: dict[str, int]
    groups: Groups | None = None
    notes: tuple[str, ...] = field(default=())


def compare_studies(
    studies: Sequence[StudyData],
    top: int = TOP,
    by: str | None = None,
    intervals: bool = False,
    gaps: Sequence[float] = GAP_THRESHOLDS,
    confirmed: Sequence[Confirmation | None] = (),
) -> Several:
    """Compare two studies or more; `confirmed` is what `tuner confirm` found of each, the rest as in `analyze_data`.

    `by` is a searched parameter, or `study` itself. Raises `UsageError` for studies of another metric or direction, for
    one that is named twice, and where `analyze_data` does.
    """
    names = _check(studies)
    told = list(confirmed) or [None] * len(studies)
    found = [
        replace(analyze_data(data, top, None, intervals, gaps, entry), name=name)
        for data, entry, name in zip(studies, told, names, strict=True)
    ]
    sides = [_side(data, analysis) for data, analysis in zip(studies, found, strict=True)]
    runs, maximize = [side.progress for side in sides], studies[0].maximize
    alike = _same_data(studies)
    untold = [
        (name, _confirmable(data, analysis))
        for name, data, analysis in zip(names, studies, found, strict=True)
        if _winner(analysis.confirmed) is None
    ]
    return Several(
        metric=found[0].metric,
        direction=found[0].direction,
        studies=tuple(found),
        sides=tuple(sides),
        by_trials=_points(names, maximize, runs, [run.ended for run in runs], Progress.after, whole=True),
        by_seconds=_points(names, maximize, runs, [run.wall_seconds for run in runs], Progress.at),
        settings=_settings(studies, found),
        differences=_differences(found, alike, maximize),
        unconfirmed=tuple(name for name, possible in untold if possible),
        unconfirmable=tuple(name for name, possible in untold if not possible),
        first_trials=dict(zip(names, map(int, np.cumsum([0, *(len(data.records) for data in studies)])), strict=False)),
        groups=None if by is None else group_by(joined(studies, names), by),
        notes=tuple(_notes(studies, found)),
    )


def _check(studies: Sequence[StudyData]) -> list[str]:
    """The studies' names, or their paths where names are the same; `UsageError` for what cannot be compared."""
    places = [data.name if data.records.files is None else str(data.records.files.resolve()) for data in studies]
    twice = next((data.name for data, place in zip(studies, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise UsageError("a study cannot be compared with itself", place="analyze", value=twice)
    names = [data.name for data in studies]
    names = [
        name if names.count(name) == 1 or data.records.files is None else str(data.records.files)
        for name, data in zip(names, studies, strict=True)
    ]
    first = studies[0]
    for name, data in zip(names, studies, strict=True):
        if (data.metric, data.maximize) != (first.metric, first.maximize):
            raise UsageError(
                f"studies of different metrics cannot be compared: '{names[0]}' has {_kind(first)}, "
                f"'{name}' has {_kind(data)}",
                place="analyze",
            )
    return names


def _kind(data: StudyData) -> str:
    return f"{data.metric}, {'maximized' if data.maximize else 'minimized'}"


def _side(data: StudyData, analysis: Analysis) -> Side:
    values = [trial.value for trial in analysis.top.trials]
    deviation = statistics.stdev(values) if len(values) > 1 else None
    progress = progress_of(data)
    mean = statistics.fmean(values) if values else None
    return Side(analysis.name, len(values), mean, deviation, progress.wall_seconds, progress)


def _points(
    names: Sequence[str],
    maximize: bool,
    runs: Sequence[Progress],
    ends: Sequence[float | None],
    best: Any,
    whole: bool = False,
) -> tuple[Point, ...]:
    """The best values so far at `SHARES` of the shortest study, and at the others' ends; none where an end is unknown.

    `best` is `Progress.after` or `Progress.at`.
    """
    known = [end for end in ends if end is not None]
    if len(known) < len(ends) or not min(known):
        return ()
    places = [share * min(known) for share in SHARES] + sorted({*known})
    places = sorted({max(1, round(place)) if whole else place for place in places})
    found = []
    for at in places:
        shared = at <= min(known)
        values = tuple(best(run, at) if at <= end else None for run, end in zip(runs, known, strict=True))
        found.append(Point(at, values, _ahead(names, values, maximize) if shared else None, shared))
    return tuple(found)


def _ahead(names: Sequence[str], values: Sequence[float | None], maximize: bool) -> str | None:
    """The study with the best value; None where two have it, or none has one."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    best = max(known) if maximize else min(known)
    first = [name for name, value in zip(names, values, strict=True) if value == best]
    return first[0] if len(first) == 1 else None


def _settings(studies: Sequence[StudyData], found: Sequence[Analysis]) -> tuple[Setting, ...]:
    """The values of the best trials' recipes that differ; of their parameters where one has no recipe."""
    flat: dict[str, Mapping[str, Any]] = {}
    for data, analysis in zip(studies, found, strict=True):
        if analysis.best is not None:
            recipe = data.records.recipes([analysis.best.number]).get(analysis.best.number)
            flat[analysis.name] = {**({} if recipe is None else flatten(recipe)), **analysis.best.parameters}
    every = dict.fromkeys([name for analysis in found if analysis.best for name in analysis.best.parameters])
    every.update(dict.fromkeys(name for values in flat.values() for name in values))
    return tuple(
        Setting(name, {study: values[name] for study, values in flat.items() if name in values})
        for name in every
        if len({repr(values[name]) if name in values else "" for values in flat.values()}) > 1
    )


def _confirmable(data: StudyData, analysis: Analysis) -> bool:
    """Whether the best trial has a recipe that can be trained again."""
    return analysis.best is not None and bool(data.records.recipes([analysis.best.number]))


def _winner(found: Confirmation | None) -> Candidate | None:
    return None if found is None else found.candidate(found.winner)


def _differences(found: Sequence[Analysis], alike: bool, maximize: bool) -> tuple[Difference, ...]:
    """Every two studies that were confirmed."""
    known = [
        (entry.name, entry.confirmed, best)
        for entry in found
        if entry.confirmed is not None and (best := _winner(entry.confirmed)) is not None
    ]
    pairs = [_difference(*one, *other, alike, maximize) for one, other in itertools.combinations(known, 2)]
    adjusted = iter(holm([entry.tested.p for entry in pairs if entry.tested.p is not None]))
    return tuple(entry if entry.tested.p is None else replace(entry, p_adjusted=next(adjusted)) for entry in pairs)


def _difference(
    first: str,
    confirmed: Confirmation,
    one: Candidate,
    second: str,
    confirmed_too: Confirmation,
    other: Candidate,
    alike: bool,
    maximize: bool,
) -> Difference:
    test = confirmed.test_metric if confirmed.test_metric == confirmed_too.test_metric else None
    sides = [_by_seed(entry, test) for entry in (one, other)]
    if test is not None and not all(sides):
        test, sides = None, [_by_seed(entry, None) for entry in (one, other)]
    shared = [seed for seed in sides[0] if seed in sides[1]]
    if alike and len(shared) >= FEWEST:
        tested = compare_pairs([(sides[0][seed], sides[1][seed]) for seed in shared])
    else:
        tested = compare_levels([[*side.values()] for side in sides])
    means = [level_mean([*side.values()]) for side in sides]
    better = _ahead((first, second), [mean.mean for mean in means], maximize)
    metric, split = (confirmed.metric, "validation") if test is None else (test, "test")
    return Difference(
        first, second, one.trial, other.trial, metric, split, means[0], means[1], better, tested  # type: ignore[arg-type]
    )  # fmt: skip


def _by_seed(entry: Candidate, test: str | None) -> dict[int, float]:
    """A setting's results over fresh seeds: on the test split, or (None) on validation."""
    if test is None:
        return {run.seed: run.value for run in entry.runs if run.value is not None}
    return {run.seed: run.test[test] for run in entry.runs if test in run.test}


def _same_data(studies: Sequence[StudyData]) -> bool:
    """Whether all studies have one task and one data."""
    return len({repr((data.space.get("task"), _data_of(data))) for data in studies}) == 1


def _data_of(data: StudyData) -> dict[str, Any]:
    """The options of the recipe that the data come from."""
    return {key: value for key, value in sorted(flatten(data.recipe).items()) if key.startswith("data.")}


def _notes(studies: Sequence[StudyData], found: Sequence[Analysis]) -> list[str]:
    """What makes the comparison less than even, a line each."""
    notes = []
    if len({data.space.get("task") for data in studies}) > 1:
        listed = ", ".join(f"{entry.name} {entry.task or 'a task of its own'}" for entry in found)
        notes.append(f"the studies have different tasks, so that their values need not mean the same: {listed}")
    elif not _same_data(studies):
        names = dict.fromkeys(key for data in studies for key in _data_of(data))
        other = [key for key in names if len({repr(_data_of(data).get(key)) for data in studies}) > 1]
        notes.append(f"the studies have different data ({', '.join(other)})")
    elif len({str(data.records.attributes.get("task_hash")) for data in studies}) > 1:
        notes.append("the task's source file was not the same for all studies")
    if len({data.space.get("value") for data in studies}) > 1:
        listed = ", ".join(f"{entry.name} {entry.value or 'as told by its objective'}" for entry in found)
        notes.append(f"a trial's value is not the same epoch's in all studies: {listed}")
    for entry in found:
        taken = sum(entry.counts.earlier.values())
        if taken:
            notes.append(f"{entry.name} began with {taken} trials of {entry.warm_start or 'an earlier study'}")
    return notes
