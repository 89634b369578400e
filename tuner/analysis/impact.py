"""What each parameter does: its importance, whether that is more than chance, and how each of its levels did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from optuna.distributions import FloatDistribution, IntDistribution

from tuner.analysis.data import StudyData
from tuner.analysis.divergence import TellingLevel, Threshold
from tuner.analysis.effects import EffectModel
from tuner.analysis.importance import Importances
from tuner.analysis.levels import Level
from tuner.analysis.trials import cells


@dataclass(frozen=True)
class ParameterImpact:
    """A parameter's importance (0 to 1, see `Importances`), and its levels.

    `low` and `high` bound the importance with 90 % confidence, where intervals were asked for. `p` tells how likely
    (0 to 1) chance would make any parameter matter as much (see effects.py); at most 0.01 it is `sure`. What cannot be
    told is None. `trials` are the trained trials in which it was active; `log` tells a logarithmic range.
    """

    parameter: str
    importance: float | None
    low: float | None
    high: float | None
    p: float | None
    sure: bool
    log: bool
    trials: int
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Impact:
    """The parameters: those whose effect is sure before the others, then the most important first.

    `method` is `anova`, where the `complete` trials are a complete grid, or `ped-anova`: what sets the best `top` of
    them apart. Where importances cannot be told, they are None and `reason` says why. `together` are the parameters
    that changed in step in all trials: what one of them does cannot be told from what the others do.
    """

    parameters: tuple[ParameterImpact, ...]
    method: str
    reason: str | None
    complete: int
    top: int
    together: tuple[tuple[str, ...], ...] = ()


def impact(
    data: StudyData,
    levels: Mapping[str, tuple[Level, ...]],
    model: EffectModel,
    told: Importances,
    telling: Sequence[Threshold | TellingLevel] = (),
) -> Impact:
    """Importance and levels of each searched parameter that was active in a trained trial.

    `levels` are those of `levels_by_parameter`, `model` is that of the trials' scores, `told` the importances; a
    parameter that is `telling` which trials diverge matters, too.
    """
    chances = {entry.parameter: entry.p for entry in sorted(telling, key=lambda entry: -entry.p)}
    found = []
    for name, its_levels in levels.items():
        effect, kind = model.effects.get(name), data.records.distributions.get(name)
        low, high = told.intervals.get(name, (None, None))
        found.append(
            ParameterImpact(
                parameter=name,
                importance=told.shares.get(name),
                low=low,
                high=high,
                p=min(
                    (p for p in (chances.get(name), None if effect is None else effect.p) if p is not None),
                    default=None,
                ),
                sure=name in chances or (effect is not None and effect.sure),
                log=isinstance(kind, (FloatDistribution, IntDistribution)) and kind.log,
                trials=sum(level.trials for level in its_levels),
                levels=its_levels,
            )
        )
    found.sort(key=lambda entry: (not entry.sure, -(entry.importance or 0.0)))
    return Impact(tuple(found), told.method, told.reason, len(data.complete), told.top, _together(data, [*levels]))


def _together(data: StudyData, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Parameters that part the trained trials alike; values that hardly repeat part every trial from all others."""
    alike: dict[bytes, list[str]] = {}
    for name in names:
        codes, values = pd.factorize(np.array([repr(value) for value in cells(data.trained, data.columns[name])]))
        if 1 < len(values) <= len(codes) / 2:
            alike.setdefault(codes.tobytes(), []).append(name)
    return tuple(tuple(group) for group in alike.values() if len(group) > 1)
