"""How steadily trials ran: where they diverge, spikes and noise of the loss, gradient norms."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tuner.analysis.data import StudyData
from tuner.analysis.significance import holm
from tuner.analysis.stability import has_logarithm, series_noise
from tuner.analysis.steadiness import TOTAL, runs_of
from tuner.analysis.trials import cells, is_missing
from tuner.search_space.parameter import is_number

FEWEST_DIVERGED = 3
"""Diverged trials below which no threshold is looked for."""

UNLIKELY = 0.005
"""A threshold is told where chance would part the trials as well no more often than this, in any of the parameters."""

MOST_SERIES = 32
"""Per-step series are read of the best trials, and of others spread over the study, up to so many."""


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


@dataclass(frozen=True)
class LossNoise:
    """The training loss of one trial, step by step, around its trend (see stability.py).

    `variance` is that of its natural logarithm where `log`, so that 0.01 is about 10 %.
    """

    trial: int
    variance: float
    spikes: int
    steps: int
    log: bool


@dataclass(frozen=True)
class Stability:
    """How steadily the trials ran.

    `diverged` of the `ended` trials diverged; `thresholds` and `levels` are the surest first. `noise` is that of the
    trials in `MOST_SERIES`, the best first; `gradients` are the median gradient norms of the best fifth of the complete
    trials, of the others, and of the diverged ones before they did, where recorded.
    """

    ended: int
    diverged: int
    thresholds: tuple[Threshold, ...] = ()
    levels: tuple[TellingLevel, ...] = ()
    noise: tuple[LossNoise, ...] = ()
    gradients: tuple[float | None, float | None, float | None] = (None, None, None)

    @property
    def telling(self) -> list[Threshold | TellingLevel]:
        """What tells which trials diverge, the surest first."""
        return sorted((*self.thresholds, *self.levels), key=lambda entry: entry.p)

    @property
    def typical_variance(self) -> float | None:
        """The median of the trials' variances."""
        return statistics.median(entry.variance for entry in self.noise) if self.noise else None


def stability(data: StudyData) -> Stability:
    """How steadily the trials of a study ran."""
    ended = data.frame[data.frame["state"].isin(["complete", "pruned", "diverged"])]
    ranked = data.complete.sort_values("value", ascending=not data.maximize, kind="stable").index.tolist()
    edges, levels = parting(data, ended, (ended["state"] == "diverged").to_numpy())
    return Stability(
        ended=len(ended),
        diverged=int((ended["state"] == "diverged").sum()),
        thresholds=edges,
        levels=levels,
        noise=_noise(data, ranked),
        gradients=_gradients(data, ranked),
    )


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


def _noise(data: StudyData, ranked: Sequence[int]) -> tuple[LossNoise, ...]:
    """The noise of the weighted loss, or of the only loss term."""
    if data.records.files is None or not (data.records.files / "series").is_dir():
        return ()
    chosen = _spread([int(number) for number in ranked])
    found = []
    for number, run in runs_of(data, chosen, []).items():
        column = run.arrays.get(TOTAL)
        if column is None:
            continue
        log = has_logarithm(column, run.phases)
        noise = series_noise(column, run.phases, log).pooled
        if noise is not None:
            found.append(LossNoise(number, noise.variance, noise.spikes, noise.steps, log))
    return tuple(found)


def _spread(ranked: Sequence[int]) -> list[int]:
    """The first few, and others spread over the rest."""
    first = list(ranked[: MOST_SERIES // 2])
    rest = ranked[len(first) :]
    places = np.linspace(0, len(rest) - 1, min(len(rest), MOST_SERIES - len(first))).round().astype(int)
    return first + [rest[place] for place in dict.fromkeys(places.tolist())]


def _gradients(data: StudyData, ranked: Sequence[int]) -> tuple[float | None, float | None, float | None]:
    epochs = data.records.epochs
    if epochs.empty:
        return (None, None, None)
    norms, trials = epochs["gradient_norm"].to_numpy(), epochs["trial"].to_numpy()
    top = list(ranked)[: max(1, len(ranked) // 5)]
    rest = list(ranked)[len(top) :]
    diverged = data.frame.index[data.frame["state"] == "diverged"].tolist()
    first, second, third = (_median_of(norms, trials, group, len(data.frame)) for group in (top, rest, diverged))
    return first, second, third


def _median_of(values: np.ndarray, trials: np.ndarray, chosen: Sequence[int], count: int) -> float | None:
    """The median of the finite values of the chosen of `count` trials; None where there are none."""
    wanted = np.zeros(count, dtype=bool)
    wanted[list(chosen)] = True
    found = values[wanted[trials] & np.isfinite(values)]
    return float(np.median(found)) if len(found) else None
