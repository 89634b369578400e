"""Overfitting: the gap between validation and training loss, and the parameters that go with a large one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.analysis.data import StudyData
from tuner.analysis.effects import fitted
from tuner.analysis.factors import factors_of
from tuner.analysis.levels import Level, Sample, level_of, levels_in
from tuner.analysis.scores import normal_scores
from tuner.analysis.trials import cells, finite, is_missing, mean_of

GAP_THRESHOLDS = (0.01, 0.05)
"""Gaps (validation loss less training loss) above which trials are counted, unless others are asked for."""


@dataclass(frozen=True)
class Above:
    """The share of trials (0 to 1) whose gap is above `threshold`."""

    threshold: float
    share: float


@dataclass(frozen=True)
class GapEffect:
    """A parameter that goes with the gap more than chance would have it (`p`, adjusted for their number).

    `levels` are its levels, in order, and `means` the mean gap of the complete trials at each.
    """

    parameter: str
    p: float
    share: float
    log: bool
    levels: tuple[Level, ...]
    means: tuple[float, ...]


@dataclass(frozen=True)
class Gap:
    """Final validation loss less final training loss over the `trials` complete trials that have both.

    `best` is the best trial's, None where it has none; `relative` its share of the best trial's validation loss.
    """

    trials: int
    mean: float
    median: float
    above: tuple[Above, ...]
    best: float | None = None
    relative: float | None = None
    parameters: tuple[GapEffect, ...] = ()


def gap_of(data: StudyData, best: int | None = None, thresholds: Sequence[float] = GAP_THRESHOLDS) -> Gap | None:
    """Overfitting among the complete trials, `best` being the best one; None where none has a gap."""
    rows = data.complete
    rows = rows[np.isfinite(rows["gap"])]
    gaps = [float(gap) for gap in cells(rows, "gap")]
    if not gaps:
        return None
    above = tuple(Above(limit, sum(gap > limit for gap in gaps) / len(gaps)) for limit in sorted({*thresholds}))
    of_best = None if best is None else finite(data.frame.loc[best, "gap"])
    loss = None if best is None else finite(data.frame.loc[best, "final_val_loss"])
    relative = of_best / loss if of_best is not None and loss else None
    effects = _effects(data, rows.index)
    return Gap(len(gaps), mean_of(gaps), statistics.median(gaps), above, of_best, relative, effects)


def _effects(data: StudyData, numbers: Sequence[int]) -> tuple[GapEffect, ...]:
    rows = data.frame.loc[list(numbers)]
    model = fitted(normal_scores(rows["gap"]), factors_of(rows, data.columns, data.records.distributions))
    found = []
    for name in model.found:
        values, gaps = cells(rows, data.columns[name]), cells(rows, "gap")
        samples = [
            Sample(value, "complete", gap) for value, gap in zip(values, gaps, strict=True) if not is_missing(value)
        ]
        groups = levels_in(samples, data.search.get(name, {}).get("choices", []))
        levels = tuple(level_of(group, False) for group in groups)
        effect = model.effects[name]
        means = tuple(level.mean or 0.0 for level in levels)
        found.append(GapEffect(name, effect.p, effect.share, model.factors[name].log, levels, means))
    return tuple(sorted(found, key=lambda entry: -entry.share))
