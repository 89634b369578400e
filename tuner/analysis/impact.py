"""What each parameter does: its importance, whether that is more than chance, and how each of its levels did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.distributions import FloatDistribution, IntDistribution

from tuner.analysis.data import StudyData
from tuner.analysis.effects import Model
from tuner.analysis.importance import Importances
from tuner.analysis.levels import Level
from tuner.analysis.runs import TellingLevel, Threshold


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
    them apart. Where importances cannot be told, they are None and `reason` says why.
    """

    parameters: tuple[ParameterImpact, ...]
    method: str
    reason: str | None
    complete: int
    top: int


def impact(
    data: StudyData,
    levels: Mapping[str, tuple[Level, ...]],
    model: Model,
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
    return Impact(tuple(found), told.method, told.reason, len(data.complete), told.top)
