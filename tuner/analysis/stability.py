"""How steadily a study's trials ran: where they diverged, spikes and noise of the loss, gradient norms."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.analysis.data import StudyData
from tuner.analysis.divergence import TellingLevel, Threshold, parting
from tuner.analysis.noise import has_logarithm, series_noise
from tuner.analysis.steadiness import TOTAL, runs_of
from tuner.analysis.trials import even

MOST_SERIES = 32
"""Per-step series are read of the best trials, and of others spread over the study, up to so many."""


@dataclass(frozen=True)
class LossNoise:
    """The training loss of one trial, step by step, around its trend (see noise.py).

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
    return first + even(ranked[len(first) :], MOST_SERIES - len(first))


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
