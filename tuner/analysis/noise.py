"""How steady a run was: the noise and the spikes of a per-step series, and how rough a recorded path is.

Pure numpy functions over arrays; they know nothing of trials.

A loss falls by orders of magnitude, so its plain variance measures how far it fell. What is measured here is the
residual around a running trend, phase by phase. The trend is the line through the medians of consecutive blocks:
medians, so that a spike does not bend it; blocks that grow from `FIRST_BLOCK` steps to `BLOCK_SHARE` of the phase,
since curves bend most where a phase begins. Fluctuations faster than about two blocks are noise, slower ones trend.
The trend takes little of white noise with it: up to 8 % of its variance in blocks of 8 steps, 0.3 % in blocks of 200.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

FIRST_BLOCK = 8
"""Steps in a phase's first block."""

BLOCK_GROWTH = 1.5
BLOCK_SHARE = 0.02
"""The largest block as a share of the phase."""

FEWEST_STEPS = 2 * FIRST_BLOCK
"""Steps below which a phase has no trend to speak of, and so no noise."""

SPIKE = 6.0
"""A spike is a residual above so many scales: in normal noise one step in a billion."""

SPIKE_END = 3.0
"""It lasts until the residual is below so many scales, so that a spike with a slow end counts once."""

MAD_TO_SIGMA = 1.4826
"""The standard deviation of normal noise over its median absolute deviation."""

MEAN_TO_SIGMA = math.sqrt(math.pi / 2)
"""The standard deviation of normal noise over its mean absolute deviation."""

Array = NDArray[np.float64]
Phase = tuple[str, int, int]
"""A name, the first step, and the step behind the last one; steps count from 0."""


@dataclass(frozen=True)
class Noise:
    """The noise of a series around its trend.

    `variance` is that of the residual, in the series' units squared; `spikes` counts the rises above `SPIKE`
    scales; `highest` is the largest residual, in the series' units, also where it is no spike.
    """

    steps: int
    variance: float
    spikes: int
    highest: float


@dataclass(frozen=True)
class SeriesNoise:
    """The noise of a whole run, its phases' pooled, and of each phase by name, in order.

    Pooled variance is the mean over steps, spikes add up, and the highest is the highest of all. A phase too short
    to tell (`FEWEST_STEPS`) is left out; without any other, `pooled` is None.
    """

    pooled: Noise | None
    phases: dict[str, Noise]


def block_edges(steps: int) -> list[int]:
    """Where the blocks of a phase begin, and its end: `[0, 8, 20, ..., steps]`; the last block takes the rest."""
    largest = max(FIRST_BLOCK, round(BLOCK_SHARE * steps))
    edges, size = [0], FIRST_BLOCK
    while steps - edges[-1] >= 2 * size:
        edges.append(edges[-1] + size)
        size = min(largest, math.ceil(size * BLOCK_GROWTH))
    return [*edges, steps]


def trend(values: ArrayLike) -> Array:
    """The running trend of a phase: a line from each block's median to the next, put at the blocks' middles.

    The first and the last line go on to the ends. `values` and the trend have shape (steps,); raises `ValueError`
    for fewer than `FEWEST_STEPS`.
    """
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or len(series) < FEWEST_STEPS:
        raise ValueError(f"a trend needs a series of at least {FEWEST_STEPS} steps, not shape {series.shape}")
    edges = np.array(block_edges(len(series)))
    medians = np.array([np.median(series[first:end]) for first, end in pairwise(edges)])
    middles = (edges[:-1] + edges[1:] - 1) / 2
    steps = np.arange(len(series))
    line = np.clip(np.searchsorted(middles, steps) - 1, 0, len(middles) - 2)
    slopes = np.diff(medians) / np.diff(middles)
    found: Array = medians[line] + slopes[line] * (steps - middles[line])
    return found


def residual(values: ArrayLike) -> Array:
    """`values` (steps,) less their trend."""
    series = np.asarray(values, dtype=np.float64)
    return series - trend(series)


def scale_of(noise: ArrayLike) -> float:
    """The standard deviation of normal noise (steps,), from the median absolute deviation: spikes do not raise it.

    Where more than half of the entries are the same, it is from the mean absolute deviation instead.
    """
    entries = np.asarray(noise, dtype=np.float64)
    away = np.abs(entries - np.median(entries))
    middle = float(np.median(away))
    return MAD_TO_SIGMA * middle if middle > 0 else MEAN_TO_SIGMA * float(away.mean())


def spikes_in(noise: ArrayLike, scale: float) -> list[int]:
    """The highest step of each spike of a residual (steps,), in order; see `SPIKE` and `SPIKE_END`."""
    heights = np.asarray(noise, dtype=np.float64)
    if scale <= 0:
        return []
    raised = np.concatenate([[False], heights > SPIKE_END * scale, [False]])
    begins = np.flatnonzero(raised[1:] & ~raised[:-1])
    ends = np.flatnonzero(raised[:-1] & ~raised[1:])
    tops = [int(first + heights[first:end].argmax()) for first, end in zip(begins, ends, strict=True)]
    return [top for top in tops if heights[top] > SPIKE * scale]


def phase_noise(values: ArrayLike) -> Noise | None:
    """The noise of one phase (steps,); None where it is too short to tell or not finite.

    Spikes and the highest are not looked for in the first block, before which there is no level to rise from.
    """
    series = np.asarray(values, dtype=np.float64)
    if len(series) < FEWEST_STEPS or not np.isfinite(series).all():
        return None
    rest = residual(series)
    if np.abs(rest).max() <= 1e-9 * np.abs(series).max():  # rounding, not noise
        return Noise(len(series), 0.0, 0, 0.0)
    scale, later = scale_of(rest), rest[FIRST_BLOCK:]
    return Noise(len(series), float(rest.var()), len(spikes_in(later, scale)), max(0.0, float(later.max())))


def has_logarithm(values: ArrayLike, phases: Sequence[Phase]) -> bool:
    """Whether a series (steps,) is above 0 in every phase in which it moves; what is not finite does not matter."""
    series = np.asarray(values, dtype=np.float64)
    parts = (series[first:end] for _, first, end in phases)
    finite = (part[np.isfinite(part)] for part in parts)
    return not any(len(part) and part.min() <= 0 and part.min() < part.max() for part in finite)


def series_noise(values: ArrayLike, phases: Sequence[Phase], log: bool = False) -> SeriesNoise:
    """The noise of a series (steps,) in the given phases; phases of one name are pooled, steps beyond the series cut.

    With `log` it is that of the natural logarithm: relative, so that 0.1 is about 10 % above the trend at any height
    of the loss. A phase in which the series never moves has no noise, whatever its value. There is none to tell at
    all where a value of a phase is not finite, or has no logarithm (`has_logarithm`).
    """
    series = np.asarray(values, dtype=np.float64)
    found: dict[str, list[Noise]] = {}
    if log and not has_logarithm(series, phases):
        return SeriesNoise(None, {})
    for name, first, end in phases:
        part = series[first:end]
        if not np.isfinite(part).all():
            return SeriesNoise(None, {})
        moves = len(part) > 0 and part.min() < part.max()
        noise = phase_noise(np.log(part) if log and moves else part)
        if noise is not None:
            found.setdefault(name, []).append(noise)
    by_phase = {name: pooled(parts) for name, parts in found.items()}
    return SeriesNoise(pooled(list(by_phase.values())) if by_phase else None, by_phase)


def pooled(parts: Sequence[Noise]) -> Noise:
    """Several phases as one: variance averaged over steps, spikes added up, the highest of all."""
    steps = sum(part.steps for part in parts)
    variance = sum(part.variance * part.steps for part in parts) / steps
    return Noise(steps, variance, sum(part.spikes for part in parts), max(part.highest for part in parts))


def roughness(path: ArrayLike, steps: ArrayLike | None = None) -> float | None:
    """The mean squared second difference of a path (times x points x dimensions, or times x anything).

    The mean over times and points of |x[t+1] - 2 x[t] + x[t-1]|^2, a sum over dimensions, in the path's units
    squared; 0 for a straight path at even speed. `steps` (times,) are the steps it was recorded at: where they
    are uneven, differences are scaled to the median spacing. None for fewer than three times, or a path that is not
    finite.
    """
    points = np.asarray(path, dtype=np.float64)
    if len(points) < 3 or points.size == 0 or not np.isfinite(points).all():
        return None
    points = points.reshape(len(points), -1, points.shape[-1] if points.ndim > 1 else 1)
    times = np.arange(len(points)) if steps is None else np.asarray(steps, dtype=np.float64)
    spacing = np.diff(times)
    if len(times) != len(points) or (spacing <= 0).any():
        return None
    moves = np.diff(points, axis=0) * (np.median(spacing) / spacing)[:, None, None]
    return float((np.diff(moves, axis=0) ** 2).sum(axis=-1).mean())
