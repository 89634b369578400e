"""Which parameters matter, and which of their values did well."""

from __future__ import annotations

import contextlib
import math
import statistics
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from tuner.analysis.trials import cells, finite, is_missing, parameters_of, searched
from tuner.search_space.parameter import is_number

FEWEST_TRIALS = 10
"""Complete trials below which importances would be little more than chance."""

LEAST_TOP, USUAL_TOP = 5, 10
"""The top has a tenth of the trials, but at least ten, or a quarter where that is fewer, or at the least five.

Optuna's own default, a tenth, leaves too few trials in a study of 50 to tell their likeness from chance.
"""

SHUFFLES = 60
"""How often the trials' values are shuffled to see what importances chance alone gives."""

MOST_LEVELS = 8
"""Distinct numbers that are listed one by one; more are cut into quantile bins."""

BINS = 4


@dataclass(frozen=True)
class Level:
    """One value of a parameter, or all values from `low` to `high` that were tried (then `value` is None).

    `trials` are the counted trials there; the shares (0 to 1) are of these and add up to 1. `mean` and
    `best` are over the `complete` ones, None where there are none.
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


@dataclass(frozen=True)
class ParameterImpact:
    """A parameter's importance for reaching the top trials, and its levels.

    Importances are from 0 to 1, those of all parameters together 1, also where no parameter matters: so
    `by_chance` tells how likely (0 to 1) some parameter would look as important if none mattered. Both are
    None where they cannot be told. `trials` are the counted trials in which it was active; `log` tells a
    logarithmic range.
    """

    parameter: str
    importance: float | None
    by_chance: float | None
    log: bool
    trials: int
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Impact:
    """The parameters, most important first.

    Importances tell what sets the best `top` of the `complete` trials apart from the others. Where they
    cannot be told, they are None and `reason` says why.
    """

    parameters: tuple[ParameterImpact, ...]
    reason: str | None
    complete: int
    top: int


@dataclass(frozen=True)
class _Sample:
    """A counted trial as one parameter sees it; `result` is the trial's value if it completed."""

    value: Any
    state: str
    result: float | None


@dataclass(frozen=True)
class _Importance:
    share: float
    by_chance: float


def impact(study: optuna.Study, frame: pd.DataFrame) -> Impact:
    """Importance and levels of each searched parameter that was active in a counted trial.

    `frame` is the study's own `trials_frame`.
    """
    maximize = study.direction == StudyDirection.MAXIMIZE
    trials = _complete_trials(study, frame)
    top = _top_size([value for trial in trials if (value := trial.value) is not None], maximize)
    importances, reason = _importances(study.direction, trials, top)
    counted, search, logs = frame[frame["counted"]], searched(study), _log_parameters(study)
    found = []
    for name, column in parameters_of(frame).items():
        samples = _samples(counted, column)
        if samples:
            groups = _groups(samples, search.get(name, {}).get("choices", []))
            levels = tuple(_level(group, maximize) for group in groups)
            told = importances.get(name)
            share, by_chance = (told.share, told.by_chance) if told else (None, None)
            found.append(ParameterImpact(name, share, by_chance, name in logs, len(samples), levels))
    found.sort(key=lambda entry: -(entry.importance or 0.0))
    return Impact(tuple(found), reason, len(trials), top)


def target_quantile(complete: int) -> float:
    """The share of `complete` trials that are the top; see `USUAL_TOP`."""
    if complete <= LEAST_TOP:
        return 1.0
    asked = max(complete / 10, min(USUAL_TOP, max(complete / 4, LEAST_TOP)))
    return (math.ceil(asked) - 0.5) / complete  # half a trial less, so that rounding up gives the number meant


def _complete_trials(study: optuna.Study, frame: pd.DataFrame) -> list[FrozenTrial]:
    """The complete trials with a finite value; duplicates, which would weigh twice, are left out."""
    rows = frame[frame["state"] == "complete"]
    numbers = {
        number
        for number, value in zip(cells(rows, "number"), cells(rows, "value"), strict=True)
        if finite(value) is not None
    }
    return [trial for trial in study.get_trials(deepcopy=False) if trial.number in numbers]


def _top_size(values: Sequence[float], maximize: bool) -> int:
    """How many trials are as good as the last of the top: trials of equal value go together."""
    if not values:
        return 0
    ranked = sorted(values, reverse=maximize)
    last = ranked[math.ceil(target_quantile(len(ranked)) * len(ranked)) - 1]
    return sum(value >= last if maximize else value <= last for value in ranked)


def _importances(
    direction: StudyDirection, trials: Sequence[FrozenTrial], top: int
) -> tuple[dict[str, _Importance], str | None]:
    """PED-ANOVA importances by parameter; or none, and the reason why they cannot be told."""
    if len(trials) < FEWEST_TRIALS:
        return {}, f"not enough trials to tell: {len(trials)} complete, {FEWEST_TRIALS} needed"
    if len({trial.value for trial in trials}) == 1:
        return {}, "nothing to tell: all complete trials have the same value"
    if top == len(trials):
        return {}, f"nothing to tell: too many of the {top} complete trials share the same values"
    if not any(len({repr(trial.params.get(name)) for trial in trials}) > 1 for name in _names(trials)):
        return {}, "nothing to tell: no parameter differs among the complete trials"
    try:
        with _quietly():
            return _ped_anova(direction, trials), None
    except Exception as error:  # the other tables stand without it, whatever Optuna cannot do
        return {}, f"Optuna cannot tell: {error or type(error).__name__}"


def _ped_anova(direction: StudyDirection, trials: Sequence[FrozenTrial]) -> dict[str, _Importance]:
    """Importances, and how each compares with those of `SHUFFLES` studies whose values are shuffled.

    Each is measured from its parameter's own mean over the shuffles, in standard deviations, since chance
    gives more to some parameters than to others, and square roots tame the few very large ones. The largest
    of each shuffle is compared, since there are several parameters to be misled by.
    """
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=target_quantile(len(trials)))
    shares = get_param_importances(study, evaluator=evaluator)
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0  # with a target, lower is always better
    values = np.array(
        [sign * value for trial in study.get_trials(deepcopy=False) if (value := trial.value) is not None]
    )

    def absolute(order: Sequence[int]) -> list[float]:
        found = get_param_importances(
            study,
            evaluator=evaluator,
            target=lambda trial: float(values[order[trial.number]]),
            normalize=False,
        )
        return [found[name] for name in shares]

    random = np.random.default_rng(0)
    actual = np.sqrt(absolute(range(len(trials))))
    shuffled = np.sqrt([absolute(random.permutation(len(trials)).tolist()) for _ in range(SHUFFLES)])
    mean, deviation = shuffled.mean(axis=0), np.maximum(shuffled.std(axis=0), 1e-12)
    largest = ((shuffled - mean) / deviation).max(axis=1)
    as_large = [(1 + int((largest >= entry).sum())) / (1 + SHUFFLES) for entry in (actual - mean) / deviation]
    return {name: _Importance(share, chance) for (name, share), chance in zip(shares.items(), as_large, strict=True)}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without Optuna's warnings of rare conditions and its line about the study in memory."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _names(trials: Iterable[FrozenTrial]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def _log_parameters(study: optuna.Study) -> set[str]:
    """The parameters that were drawn from a logarithmic range."""
    return {
        name
        for trial in study.get_trials(deepcopy=False)
        for name, entry in trial.distributions.items()
        if isinstance(entry, (FloatDistribution, IntDistribution)) and entry.log
    }


def _samples(counted: pd.DataFrame, column: str) -> list[_Sample]:
    rows = zip(cells(counted, column), cells(counted, "state"), cells(counted, "value"), strict=True)
    return [
        _Sample(value, state, finite(result) if state == "complete" else None)
        for value, state, result in rows
        if not is_missing(value)
    ]


def _groups(samples: Sequence[_Sample], choices: Sequence[Any]) -> list[list[_Sample]]:
    """The samples by level: numbers ascending, in quantile bins where there are many; choices as written."""
    if all(is_number(sample.value) for sample in samples):
        distinct = sorted({sample.value for sample in samples})
        if len(distinct) > MOST_LEVELS:
            return _bins(samples)
        return [[sample for sample in samples if sample.value == value] for value in distinct]
    groups: dict[str, list[_Sample]] = {repr(choice): [] for choice in choices}
    for sample in sorted(samples, key=lambda entry: repr(entry.value)):
        groups.setdefault(repr(sample.value), []).append(sample)
    return [group for group in groups.values() if group]


def _bins(samples: Sequence[_Sample]) -> list[list[_Sample]]:
    """The samples in up to `BINS` bins of about equal size; a value on an edge falls into the lower bin."""
    values = [float(sample.value) for sample in samples]
    edges = [float(edge) for edge in np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])]
    bounds = [-math.inf, *edges, math.inf]
    groups = [[sample for sample in samples if low < float(sample.value) <= high] for low, high in pairwise(bounds)]
    return [group for group in groups if group]


def _level(group: Sequence[_Sample], maximize: bool) -> Level:
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
        mean=statistics.fmean(results) if results else None,
        best=(max(results) if maximize else min(results)) if results else None,
        share_complete=share["complete"],
        share_pruned=share["pruned"],
        share_diverged=share["diverged"],
        share_failed=share["failed"],
    )
