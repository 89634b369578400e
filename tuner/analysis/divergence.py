"""What tells which trials diverged or ran out of memory: values of a parameter beyond which they do, and choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tuner.analysis.data import StudyData
from tuner.analysis.significance import holm
from tuner.analysis.trials import cells, is_missing
from tuner.search_space.parameter import is_number

FEWEST_DIVERGED = 3
"""Diverged trials below which no threshold is looked for."""

UNLIKELY = 0.005
"""A threshold is told where chance would part the trials as well no more often than this, in any of the parameters."""


@dataclass(frozen=True)
class Threshold:
    """A value of a parameter beyond which trials tend to diverge: `side` is above it or below it.

    `beyond` counts the trials there, and `diverged_beyond` those of them that diverged; `within` and `diverged_within`
    those on the other side. `p` is that of the Mann-Whitney test, adjusted for the number of tests (Holm).
    """

    parameter: str
    value: float
    side: str
    beyond: int
    diverged_beyond: int
    within: int
    diverged_within: int
    p: float


@dataclass(frozen=True)
class TellingLevel:
    """A choice that is no number, with which trials diverge more often, or more seldom, than with others.

    `diverged` of the `trials` with it diverged, and `diverged_others` of the `others`, among those in which the
    parameter was active. `p` is that of Fisher's exact test, adjusted as a threshold's.
    """

    parameter: str
    value: Any
    trials: int
    diverged: int
    others: int
    diverged_others: int
    p: float

    @property
    def more(self) -> bool:
        """Whether trials diverge more often with it."""
        return self.diverged * self.others > self.diverged_others * self.trials


def out_of_memory(data: StudyData) -> tuple[Threshold, ...]:
    """The parameters beyond some value of which trials ran out of memory; `diverged_beyond` counts these."""
    ended = data.trained
    struck = [
        state == "failed" and "out of memory" in str(reason or "")
        for state, reason in zip(cells(ended, "state"), cells(ended, "reason"), strict=True)
    ]
    return parting(data, ended, np.array(struck, dtype=bool))[0]


def parting(
    data: StudyData, rows: pd.DataFrame, struck: np.ndarray
) -> tuple[tuple[Threshold, ...], tuple[TellingLevel, ...]]:
    """The numbers beyond some value of which trials were `struck` (bool, a row each), and the choices that tell which
    were; the surest first.

    Sources of the tests: H. B. Mann, D. R. Whitney, On a Test of Whether one of Two Random Variables is Stochastically
    Larger than the Other, Ann. Math. Stat. 18 (1947), with the normal approximation corrected for ties; R. A. Fisher,
    On the Interpretation of Chi-Squared from Contingency Tables, and the Calculation of P, J. R. Stat. Soc. 85 (1922).
    """
    edges: list[Threshold] = []
    levels: list[TellingLevel] = []
    if not _testable(struck):
        return (), ()
    for name, column in data.columns.items():
        values = cells(rows, column)
        active = [place for place, value in enumerate(values) if not is_missing(value)]
        levels += _levels(name, [values[place] for place in active], struck[active])
        places = [place for place in active if is_number(values[place])]
        numbers, hit = np.array([float(values[place]) for place in places]), struck[places]
        if len({*numbers.tolist()}) > 1 and _testable(hit):
            edges.append(_threshold(name, numbers, hit))
    adjusted = holm([entry.p for entry in edges] + [entry.p for entry in levels])
    sure_edges = [replace(entry, p=p) for entry, p in zip(edges, adjusted, strict=False) if p <= UNLIKELY]
    sure = [replace(entry, p=p) for entry, p in zip(levels, adjusted[len(edges) :], strict=True) if p <= UNLIKELY]
    worse = {entry.parameter for entry in sure if entry.more}
    told = [entry for entry in sure if entry.more or entry.parameter not in worse]
    return (
        tuple(sorted(sure_edges, key=lambda entry: entry.p)),
        tuple(sorted(told, key=lambda entry: entry.p)),
    )


def _testable(hit: np.ndarray) -> bool:
    """Whether enough trials were struck, and not all."""
    return bool(hit.sum() >= FEWEST_DIVERGED and not hit.all())


def _levels(name: str, values: Sequence[Any], hit: np.ndarray) -> list[TellingLevel]:
    """Each choice that is no number against all others; of two choices the one that was struck more often."""
    names = np.array([repr(value) for value in values], dtype=object)
    if not _testable(hit) or len({*names}) < 2:
        return []
    found = []
    for value in {repr(value): value for value in values if not is_number(value)}.values():
        there = names == repr(value)
        trials, struck = int(there.sum()), int(hit[there].sum())
        others, beside = len(hit) - trials, int(hit.sum()) - struck
        p = fisher(struck, trials, beside, others)
        found.append(TellingLevel(name, value, trials, struck, others, beside, p))
    two = len({*names}) == 2 and len(found) == 2
    return [max(found, key=lambda entry: entry.diverged / entry.trials)] if two else found


def fisher(struck: int, trials: int, beside: int, others: int) -> float:
    """Two-sided p of Fisher's exact test that a share of `struck` in `trials` is that of `beside` in `others`: the
    chance of all tables with these sums that are no likelier. SciPy's test takes a second to import.
    """
    from scipy.special import gammaln

    def ways(total: int, some: np.ndarray) -> np.ndarray:
        return np.asarray(gammaln(total + 1) - gammaln(some + 1) - gammaln(total - some + 1))

    hits = struck + beside
    first = max(0, hits - others)
    possible = np.arange(first, min(trials, hits) + 1)
    likely = ways(trials, possible) + ways(others, hits - possible) - ways(trials + others, np.array(hits))
    return float(min(1.0, np.exp(likely[likely <= likely[struck - first] + 1e-7]).sum()))


def _threshold(name: str, numbers: np.ndarray, hit: np.ndarray) -> Threshold:
    """The cut that parts the struck trials best: by the likelihood of two shares."""
    from scipy.special import ndtr

    ranks = pd.Series(numbers).rank().to_numpy()
    few, many = int(hit.sum()), int((~hit).sum())
    excess = float(ranks[hit].sum()) - few * (len(numbers) + 1) / 2
    ties = pd.Series(numbers).value_counts().to_numpy(dtype=float)
    count = float(len(numbers))
    spread = few * many / 12 * ((count + 1) - float((ties**3 - ties).sum()) / (count * (count - 1)))
    p = 2 * float(ndtr(-max(0.0, abs(excess) - 0.5) / math.sqrt(spread))) if spread > 0 else 1.0
    above = excess > 0
    best = _best_cut(numbers, hit)
    beyond = numbers > best if above else numbers < best
    return Threshold(
        name,
        best,
        "above" if above else "below",
        int(beyond.sum()),
        int(hit[beyond].sum()),
        int((~beyond).sum()),
        int(hit[~beyond].sum()),
        p,
    )


def _middle(low: float, high: float) -> float:
    """Half way between two values, of positive ones by their ratio."""
    return math.sqrt(low * high) if low > 0 else (low + high) / 2


def _best_cut(numbers: np.ndarray, hit: np.ndarray) -> float:
    """Of all cuts between two values, the one at which a share struck on either side is likeliest."""
    order = np.argsort(numbers, kind="stable")
    ordered, struck = numbers[order], np.cumsum(hit[order])
    ends = np.flatnonzero(np.diff(ordered))  # the last places before another value
    below, below_hit = ends + 1, struck[ends]
    likelihood = _log_likelihood(below_hit, below)
    likelihood += _log_likelihood(struck[-1] - below_hit, len(numbers) - below)
    best = int(ends[int(np.argmax(likelihood))])
    return _middle(float(ordered[best]), float(ordered[best + 1]))


def _log_likelihood(hits: np.ndarray, of: np.ndarray) -> np.ndarray:
    """The log-likelihood of so many hits by the share that they are."""
    from scipy.special import xlogy

    return np.asarray(xlogy(hits, hits / of) + xlogy(of - hits, 1 - hits / of))
