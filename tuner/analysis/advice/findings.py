"""Findings: what rules look at; and what they give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from tuner.analysis.data import StudyData
from tuner.analysis.divergence import Threshold
from tuner.analysis.effects import EffectModel
from tuner.analysis.ends import Ends
from tuner.analysis.factors import Factor
from tuner.analysis.overfitting import Gap
from tuner.analysis.stability import Stability
from tuner.analysis.tables import TopTrial
from tuner.analysis.trials import cells


@dataclass(frozen=True)
class Change:
    """How a search space changes: keys of parameters' descriptions (None: without that key), what is fixed instead of
    searched, and other values of the recipe."""

    search: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    trials: int | None = None


@dataclass(frozen=True)
class Advice:
    """What to do (`do`, a sentence without a full stop) and `why`, with the numbers it rests on in `evidence`.

    `kind` names the rule; `parameter` is the one it is about, if it is about one. `change` is what `--next` does.
    """

    kind: str
    parameter: str | None
    do: str
    why: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    change: Change | None = None


@dataclass(frozen=True)
class Findings:
    """What is known of a study. `model` is that of its trials' `scores` (by trial number, higher is better)."""

    data: StudyData
    scores: pd.Series[float]
    model: EffectModel
    best: TopTrial | None
    top: tuple[TopTrial, ...]
    gap: Gap | None
    ends: Ends
    stability: Stability
    memory: tuple[Threshold, ...] = ()

    @cached_property
    def good(self) -> np.ndarray:
        """Which of the scored trials are in their best quarter (bool)."""
        values = self.scores.to_numpy()
        return np.asarray(values >= np.quantile(values, 0.75)) if len(values) else np.zeros(0, dtype=bool)

    def factor(self, name: str) -> Factor:
        """A parameter as the model sees it."""
        return self.model.factors[name]

    def values(self, name: str) -> list[Any]:
        """A parameter's values in the scored trials."""
        return cells(self.data.frame.loc[self.scores.index], self.data.columns[name])

    def description(self, name: str) -> dict[str, Any]:
        """How a parameter was searched, as a search space has it; of other programs' studies by Optuna's record."""
        written = self.data.search.get(name)
        if written is not None:
            return dict(written)
        kind = self.data.records.distributions.get(name)
        known = {} if kind is None else kind._asdict()
        return {key: list(value) if key == "choices" else value for key, value in known.items() if value is not None}

    def of_recipe(self, path: str) -> Any:
        """A fixed value of the recipe; None where there is none."""
        found: Any = self.data.recipe
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    def caught(self, name: str, side: str) -> bool:
        """Whether trials diverge, or run out of memory, on that side (above, below) of some value of a parameter."""
        known = (*self.stability.thresholds, *self.memory)
        return any((entry.parameter, entry.side) == (name, side) for entry in known)

    def tells(self, name: str) -> bool:
        """Whether a parameter tells which trials diverge, or run out of memory."""
        edges = any(entry.parameter == name for entry in (*self.stability.thresholds, *self.memory))
        return edges or any(entry.parameter == name for entry in self.stability.levels)


def nice(value: float, up: bool | None = None) -> float:
    """A number near `value` of one digit, 1, 2, 3 or 5; up or down to it where said, else the nearest by ratio."""
    if value == 0 or not math.isfinite(value):
        return value
    sign, size = math.copysign(1.0, value), abs(value)
    power = math.floor(math.log10(size))
    steps = [float(f"{digit}e{power + shift}") for shift in (-1, 0, 1) for digit in (1, 2, 3, 5)]
    if up is None:
        return sign * min(steps, key=lambda step: abs(math.log(step / size)))
    upward = up == (sign > 0)
    return sign * (
        min(s for s in steps if s >= size * (1 - 1e-9)) if upward else max(s for s in steps if s <= size * (1 + 1e-9))
    )


def brief(value: float, low: float, high: float, up: bool | None = None) -> float:
    """A number near `value` to a tenth of the power of ten of a range's length; up or down to it where said.

    By the range, not by its own digits: 11.3 of 10 to 12 is not about 11.
    """
    length = high - low
    if not (math.isfinite(value) and math.isfinite(length) and length > 0):
        return value
    unit = 10.0 ** (math.floor(math.log10(length)) - 1)
    steps = value / unit
    whole = round(steps) if up is None else math.ceil(steps - 1e-6) if up else math.floor(steps + 1e-6)
    return float(f"{whole * unit:.12g}")


def written(value: Any) -> str:
    """A value as a sentence has it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
