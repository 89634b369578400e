"""Means with their intervals, tests between levels, and the size of an effect.

Student's t throughout: trials are few, their values continuous, and their variances may differ between levels.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95

FEWEST = 3
"""Trials of a level, or pairs, below which nothing is tested."""

SAME, SMALLEST = 1e-12, 1e-150
"""Values that differ by less, relative to the largest or at all, are the same but for rounding."""

NOT_ENOUGH = "not enough trials to tell"
ALL_SAME = "the same in every trial"


@dataclass(frozen=True)
class LevelMean:
    """The mean of a level's trials, and its 95 % confidence interval from `low` to `high`.

    The mean is None without a trial, the interval with fewer than two.
    """

    trials: int
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Tested:
    """What a test between levels found; what does not apply is None.

    `p` is two-sided. `difference` is the first level's mean less the second's, `low` to `high` its 95 % confidence
    interval; `hedges_g` is the difference in standard deviations (see `hedges_g`). Where nothing could be tested,
    `reason` says why.
    """

    test: str | None = None
    p: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    hedges_g: float | None = None
    reason: str | None = None


def level_mean(values: Sequence[float]) -> LevelMean:
    """Mean and Student t interval: mean +- t(0.975, n - 1) s / sqrt(n)."""
    from scipy.stats import t

    count = len(values)
    if not count:
        return LevelMean(0, None, None, None)
    mean = float(np.mean(values))
    if count == 1:
        return LevelMean(1, mean, None, None)
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return LevelMean(count, mean, mean - half, mean + half)


def compare_pairs(pairs: Sequence[tuple[float, float]]) -> Tested:
    """The paired t test of two levels, over pairs of trials that differ in nothing else that was searched."""
    if len(pairs) < FEWEST:
        return Tested(reason=NOT_ENOUGH)
    first, second = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    largest, differences = float(max(np.abs(first).max(), np.abs(second).max())), first - second
    if _constant(np.concatenate([first, second]), largest):
        return Tested(reason=ALL_SAME)
    difference = float(differences.mean())
    if _constant(differences, largest):
        return Tested(difference=difference, reason="every pair differs by the same")
    error = float(differences.std(ddof=1)) / math.sqrt(len(pairs))
    return _student("paired t", first, second, error, len(pairs) - 1)


def compare_levels(levels: Sequence[Sequence[float]]) -> Tested:
    """Welch's t test of two levels; of more, the Alexander-Govern test, an analysis of unequal variances like it.

    Levels with fewer than `FEWEST` values are left out. Source: R. A. Alexander, D. M. Govern, A New and Simpler
    Approximation for ANOVA under Variance Heterogeneity, J. Educ. Stat. 19 (1994).
    """
    samples = [np.array(values, dtype=np.float64) for values in levels if len(values) >= FEWEST]
    if len(samples) < 2:
        return Tested(reason=NOT_ENOUGH)
    largest = float(max(np.abs(sample).max() for sample in samples))
    if _constant(np.concatenate(samples), largest):
        return Tested(reason=ALL_SAME)
    constant = [_constant(sample, largest) for sample in samples]
    if len(samples) > 2:
        if any(constant):
            return Tested(reason="a level has no spread")
        return Tested("Alexander-Govern", _alexander_govern(samples))
    difference = float(samples[0].mean() - samples[1].mean())
    no_spread = Tested(difference=difference, reason="no level has any spread")
    found = no_spread if all(constant) else _welch(*samples)
    # of more than two, which are left can differ from measure to measure, so no difference is told
    return found if len(levels) == 2 else Tested(found.test, found.p, reason=found.reason)


def _alexander_govern(samples: Sequence[np.ndarray]) -> float:
    from scipy.stats import alexandergovern

    with warnings.catch_warnings():  # where all means are the same, it says so, rightly finds nothing, and warns
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(alexandergovern(*samples).pvalue)


def _welch(first: np.ndarray, second: np.ndarray) -> Tested:
    """Source: B. L. Welch, The Generalization of Student's Problem when Several Different Population Variances are
    Involved, Biometrika 34 (1947)."""
    one, other = (float(side.var(ddof=1)) / len(side) for side in (first, second))
    share = one / (one + other)
    freedom = 1 / (share**2 / (len(first) - 1) + (1 - share) ** 2 / (len(second) - 1))
    return _student("Welch's t", first, second, math.sqrt(one + other), freedom)


def _student(test: str, first: np.ndarray, second: np.ndarray, error: float, freedom: float) -> Tested:
    """Student's t of the difference of means by its standard `error`, with `freedom` degrees of freedom."""
    from scipy.stats import t

    difference = float(first.mean() - second.mean())
    p = 2 * float(t.sf(abs(difference) / error, freedom))
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Tested(test, p, difference, difference - half, difference + half, hedges_g(first, second))


def _constant(values: np.ndarray, largest: float) -> bool:
    """Whether values of a size up to `largest` are the same but for rounding."""
    return float(np.ptp(values)) <= max(SAME * largest, SMALLEST)


def hedges_g(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float | None:
    """The difference of means in pooled standard deviations, times 1 - 3 / (4 df - 1) against the bias of few trials.

    Also for pairs it is the spread over trials, not over differences, so that sizes compare. None without spread.
    Source: L. V. Hedges, Distribution Theory for Glass's Estimator of Effect Size, J. Educ. Stat. 6 (1981).
    """
    freedom = len(first) + len(second) - 2
    squares = sum(float(((np.asarray(side) - np.mean(side)) ** 2).sum()) for side in (first, second))
    if freedom < 1 or squares == 0:
        return None
    difference = float(np.mean(first) - np.mean(second))
    return difference / math.sqrt(squares / freedom) * (1 - 3 / (4 * freedom - 1))


def holm(chances: Sequence[float], among: int = 0) -> list[float]:
    """p-values adjusted for their number: the chance that any of them is a false alarm stays below the adjusted one.

    The k-th smallest of m is multiplied by m - k + 1, never smaller than the one before it, and at most 1. Where they
    are those of more tests that were looked at, m is `among`. Source: S. Holm, A Simple Sequentially Rejective Multiple
    Test Procedure, Scand. J. Stat. 6 (1979).
    """
    count = max(len(chances), among)
    order = sorted(range(len(chances)), key=lambda place: chances[place])
    scaled = [chances[place] * (count - rank) for rank, place in enumerate(order)]
    adjusted = dict(zip(order, itertools.accumulate(scaled, max), strict=True))
    return [min(1.0, adjusted[place]) for place in range(len(chances))]
