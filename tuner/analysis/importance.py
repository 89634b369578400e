"""How important each parameter is: exact ANOVA on a complete grid, PED-ANOVA otherwise.

PED-ANOVA is Optuna's: what sets the best trials apart. Source: S. Watanabe, A. Bansal, F. Hutter, PED-ANOVA:
Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces, IJCAI 2023. The functional ANOVA of a complete
grid is exact, as its cells are all there is: F. Hutter, H. Hoos, K. Leyton-Brown, An Efficient Approach for Assessing
Hyperparameter Importance, ICML 2014.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from tuner.analysis.data import StudyData
from tuner.analysis.trials import cells, differ, is_missing
from tuner.ped_anova import Answer, Question, ped_anova, target_quantile

FEWEST_TRIALS = 10
"""Complete trials below which importances would be little more than chance."""

MOST_CELLS = 1_000
"""A range of more steps than this is no side of a grid, though every trial may have another value."""


@dataclass(frozen=True)
class Importances:
    """Importances by parameter (0 to 1), and `intervals` around them where they were asked for.

    `method` is `anova` on a complete grid: shares of the values' variance, what they leave being interactions, which
    are in `pairs` by (first, second). Otherwise it is `ped-anova`: what sets the best `top` trials apart, all together
    1. Where nothing can be told, `shares` is empty and `reason` says why.
    """

    method: str
    top: int = 0
    shares: Mapping[str, float] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    reason: str | None = None


Ask = Callable[[Question], Callable[[], Answer]]
"""Takes a question and returns at once; what it returns waits for the answer."""


def here(question: Question) -> Callable[[], Answer]:
    """Works the answer out when it is waited for."""
    return partial(ped_anova, question)


def importances(data: StudyData, intervals: bool = False) -> Importances:
    """Importances of the parameters over the complete trials; with `intervals`, bootstrap ones of 90 %."""
    return ask_importances(data, intervals)()


def ask_importances(data: StudyData, intervals: bool = False, ask: Ask = here) -> Callable[[], Importances]:
    """The same, at once: what is returned waits for what `ask`, if there is a question to ask, has not answered yet."""
    rows = data.complete
    values = rows["value"].to_numpy(dtype=float)
    names = [name for name, column in data.columns.items() if _differs(rows, column)]
    top = top_size(values, data.maximize)
    if names and len({*values.tolist()}) > 1:
        cube = grid_of(rows, {name: data.columns[name] for name in names})
        if cube is not None and all(map(_is_finite, (data.records.distributions.get(name) for name in names))):
            return partial(Importances, "anova", top, *anova(names, cube))
    reason = _untold(values, top, names)
    if reason:
        return partial(Importances, "ped-anova", top, reason=reason)
    numbers = cells(rows, "number")
    parameters = data.records.parameters
    active = [{n: c[number] for n, c in parameters.items() if c[number] is not pd.NA} for number in numbers]
    answer = ask(Question(data.maximize, values.tolist(), active, dict(data.records.distributions), intervals))
    return lambda: _of(answer(), top)


def _of(answer: Answer, top: int) -> Importances:
    return Importances("ped-anova", top, answer.shares, intervals=answer.intervals, reason=answer.reason)


def _differs(rows: pd.DataFrame, column: str) -> bool:
    return differ(cells(rows, column))


def _is_finite(kind: BaseDistribution | None) -> bool:
    """Whether a parameter has so few values that a grid can hold them all."""
    if kind is None or isinstance(kind, CategoricalDistribution):
        return True
    step = getattr(kind, "step", None)
    return step is not None and (kind.high - kind.low) / step < MOST_CELLS  # type: ignore[attr-defined]


def _untold(values: NDArray[np.float64], top: int, names: Sequence[str]) -> str | None:
    """Why PED-ANOVA can tell nothing; None where it can."""
    if len(values) < FEWEST_TRIALS:
        return f"not enough trials to tell: {len(values)} complete, {FEWEST_TRIALS} needed"
    if len({*values.tolist()}) == 1:
        return "nothing to tell: all complete trials have the same value"
    if top == len(values):
        return f"nothing to tell: too many of the {top} complete trials share the same values"
    return None if names else "nothing to tell: no parameter differs among the complete trials"


def top_size(values: Sequence[float] | NDArray[np.float64], maximize: bool) -> int:
    """How many trials are as good as the last of the top: trials of equal value go together."""
    if not len(values):
        return 0
    ranked = sorted(values, reverse=maximize)
    last = ranked[math.ceil(target_quantile(len(ranked)) * len(ranked)) - 1]
    return sum(bool(value >= last if maximize else value <= last) for value in ranked)


def grid_of(rows: pd.DataFrame, columns: Mapping[str, str]) -> NDArray[np.float64] | None:
    """The values of a complete grid, an axis a parameter; None where a cell has no trial, or more than one."""
    indices: list[list[int]] = []
    size = 1
    for column in columns.values():
        values = cells(rows, column)
        if any(is_missing(value) for value in values):
            return None
        names = sorted({repr(value) for value in values})
        size *= len(names)
        if size > len(rows):
            return None
        place = {name: index for index, name in enumerate(names)}
        indices.append([place[repr(value)] for value in values])
    shape = tuple(max(index) + 1 for index in indices)
    cell = list(zip(*indices, strict=True))
    if size != len(rows) or len({*cell}) != len(rows):
        return None
    cube = np.empty(shape)
    cube[tuple(np.array(indices))] = rows["value"].to_numpy(dtype=float)
    return cube


def anova(names: Sequence[str], cube: NDArray[np.float64]) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Shares of a grid's variance that each parameter, and each pair beyond its two, accounts for."""
    scaled = cube / (float(np.abs(cube).max()) or 1.0)  # the squares of values near 1e300 are beyond any float
    centred = scaled - scaled.mean()
    total = float((centred**2).mean())
    axes = range(len(names))
    means = [centred.mean(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    shares = {name: float((means[axis] ** 2).mean()) / total for axis, name in enumerate(names)}
    pairs = {}
    for first, second in itertools.combinations(axes, 2):
        both = centred.mean(axis=tuple(other for other in axes if other not in (first, second)))
        beyond = both - means[first][:, None] - means[second][None, :]
        pairs[names[first], names[second]] = float((beyond**2).mean()) / total
    return shares, pairs
