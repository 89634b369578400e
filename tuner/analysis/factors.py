"""Factors: parameters as terms of a linear model, and the products of two of them.

A number stands by its position in its range and the square of that, a category by its levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from tuner.analysis.trials import cells, differ, is_missing
from tuner.search_space.parameter import is_number

TRIALS_A_TERM = 2
"""A model has at most one term for so many trials."""

LEVEL_TRIALS = 3
"""Levels of a category with fewer trials are taken together."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Factor:
    """A parameter over some trials, as a model sees it.

    `terms` has shape trials x terms, each column of mean 0. `position` (trials,) is where a number stands in its range,
    from -1 to 1, of a logarithmic range in its logarithm; NaN where it is not active; None for a category.
    `values` are the numbers at -1, ..., 1 of ordered choices, in order (None: a range). Where it is `squared`, the last
    term is the square of the position.
    """

    name: str
    terms: Floats
    position: Floats | None = None
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    values: tuple[Any, ...] | None = None
    squared: bool = False

    def at(self, position: float) -> float:
        """The parameter's number at a position in its range; of choices the nearest."""
        share = (min(max(position, -1.0), 1.0) + 1) / 2
        if self.values is not None:
            return float(self.values[round(share * (len(self.values) - 1))])
        if self.log:
            return float(math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low))))
        return (1 - share) * self.low + share * self.high


def factor(name: str, column: Sequence[Any], distribution: BaseDistribution | None) -> Factor | None:
    """A parameter's terms over trials, `column` its values; None where it does not vary.

    Where it is not active its terms are 0, their mean over the others: whether it is active is another's doing.
    """
    active = np.array([not is_missing(value) for value in column])
    given = [value for value, known in zip(column, active, strict=True) if known]
    if not differ(given):
        return None
    if not all(is_number(value) for value in given):
        return Factor(name, _centred(_levels(given), active))
    low, high, log, values = _range(given, distribution)
    known = _positions(np.array(given, dtype=float), low, high, log, values)
    squared = len(np.unique(np.round(known, 9))) > 2
    position = np.full(len(column), np.nan)
    position[active] = known
    terms = _centred([known, known**2] if squared else [known], active)
    return Factor(name, terms, position, low, high, log, values, squared)


def _centred(columns: Sequence[Floats], active: NDArray[np.bool_]) -> Floats:
    """Columns of the active trials, less their means, and 0 for the others."""
    found = np.zeros((len(active), len(columns)))
    known: Floats = np.stack(columns, axis=1)
    found[active] = known - known.mean(axis=0)
    return found


def _levels(column: Sequence[Any]) -> list[Floats]:
    """A column of 0 and 1 for each level but the most frequent; rare levels are one."""
    names = pd.Series([repr(value) for value in column])
    counts = names.value_counts()
    most = max(1, len(column) // (2 * TRIALS_A_TERM))
    kept = [name for name, count in counts.items() if count >= LEVEL_TRIALS][: most + 1]
    every = names.to_numpy()
    found = [np.asarray(every == name, dtype=np.float64) for name in kept[1:]]
    rest = np.asarray(~names.isin(kept), dtype=np.float64)
    return [*found, rest] if rest.sum() > 0 and kept else found or [rest]


def _range(
    given: Sequence[Any], distribution: BaseDistribution | None
) -> tuple[float, float, bool, tuple[Any, ...] | None]:
    """Bounds, whether logarithmic, and the values of ordered choices."""
    if distribution is None or isinstance(distribution, CategoricalDistribution):
        values = tuple(sorted({float(value) for value in given}))
        return values[0], values[-1], False, values
    low, high, log = distribution.low, distribution.high, distribution.log  # type: ignore[attr-defined]
    return float(low), float(high), bool(log), None


def _positions(numbers: Floats, low: float, high: float, log: bool, values: tuple[Any, ...] | None) -> Floats:
    """Positions from -1 to 1: in the range, or in the order of the choices."""
    if values is not None:
        return 2 * np.searchsorted(np.array(values), numbers) / (len(values) - 1) - 1
    if low == high:
        return np.zeros(len(numbers))
    if log:
        return 2 * (np.log(numbers) - math.log(low)) / (math.log(high) - math.log(low)) - 1
    return (numbers / 2 - low / 2) / (high / 4 - low / 4) - 1  # by halves: the whole may be beyond any float


def factors_of(frame: pd.DataFrame, columns: Mapping[str, str], kinds: Mapping[str, BaseDistribution]) -> list[Factor]:
    """The parameters over the rows of a frame; those that do not vary are left out."""
    found = [factor(name, cells(frame, column), kinds.get(name)) for name, column in columns.items()]
    return [entry for entry in found if entry is not None]


def product(first: Factor, second: Factor) -> Floats:
    """Products of two parameters' first terms: of a number its position, of a category its levels."""
    left, right = _first_terms(first), _first_terms(second)
    columns = [left[:, i] * right[:, j] for i in range(left.shape[1]) for j in range(right.shape[1])]
    return _centred(columns, np.ones(len(left), dtype=bool))


def product_terms(first: Factor, second: Factor) -> int:
    """How many terms their product has."""
    return int(_first_terms(first).shape[1] * _first_terms(second).shape[1])


def _first_terms(own: Factor) -> Floats:
    return own.terms[:, :-1] if own.squared else own.terms
