"""Axes: a parameter's values as places on one, and an axis of measurements that outliers do not spoil."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tuner.analysis.trials import cells, is_missing
from tuner.report.page.numbers import brief, drawable
from tuner.report.words import printable, short, shown
from tuner.search_space.parameter import is_number

if TYPE_CHECKING:
    from tuner.analysis import StudyData

MOST_LEVELS = 20
"""Categories that have a place of their own: those tried most often. The others share one."""

FEW = 8
LONGEST_LABEL, LONGEST_NAME = 20, 40
WIDE = 1000.0
"""Positive measurements whose largest is so many times the smallest stand on a logarithmic axis."""

FENCE = 6.0
"""Measurements so many interquartile ranges outside the middle half are outliers."""


def plot_text(text: str, width: int = LONGEST_NAME) -> str:
    """A user's text for the plotting library, which reads some HTML tags: cut to `width`, and with none."""
    cut = short(printable(text), width)
    return cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(frozen=True)
class ParameterAxis:
    """A parameter as an axis. A category's values stand at 0, 1, ..., named by `labels`; numbers where they are.

    `low` and `high` bound the numbers that were tried. `places` are those of categories by their `repr`; the rare ones
    are at the last. `few` are the numbers that were tried where they are whole and no more than `FEW`.
    """

    name: str
    log: bool = False
    low: float = 0.0
    high: float = 1.0
    labels: tuple[str, ...] | None = None
    places: Mapping[str, int] = field(default_factory=dict)
    few: tuple[float, ...] | None = None

    def at(self, value: Any) -> float | None:
        """Where a value stands; None for one that has no place."""
        if is_missing(value):
            return None
        if self.labels is not None:
            return self.places.get(repr(value))
        return brief(value)

    @property
    def title(self) -> str:
        """The name, as plots take it."""
        return plot_text(self.name)

    def layout(self) -> dict[str, Any]:
        """The axis, as plots take it."""
        axis: dict[str, Any] = {"title": {"text": self.title}, "automargin": True}
        if self.labels is not None:
            axis |= {"tickvals": list(range(len(self.labels))), "ticktext": [plot_text(label) for label in self.labels]}
            axis |= {"range": [-0.5, len(self.labels) - 0.5], "zeroline": False}
        elif self.log:
            axis |= logarithmic(self.low, self.high)
        if self.few is not None:
            axis |= {"tickvals": list(self.few), "ticktext": [f"{value:g}" for value in self.few]}
        return axis


def logarithmic(low: float, high: float) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 where few decades are crossed, else at whole ones, at most about 8."""
    decades = math.log10(high) - math.log10(low) if high > low > 0 else 1.0
    return {"type": "log", "exponentformat": "power", "dtick": "D2" if decades <= 2 else max(1, round(decades / 8))}


def parameter_axis(data: StudyData, name: str) -> ParameterAxis:
    """The axis of a parameter over all values that were tried; choices stand evenly, numbers as they are."""
    column = cells(data.frame, data.columns[name])
    given = [value for value in column if not is_missing(value)]
    kind = data.records.distributions.get(name)
    numbers = [float(value) for value in given if drawable(value) is not None]
    if len(numbers) == len(given) and numbers and not isinstance(kind, CategoricalDistribution):
        low, high = min(numbers), max(numbers)
        log = isinstance(kind, (FloatDistribution, IntDistribution)) and kind.log and low > 0
        distinct = tuple(sorted({*numbers})) if isinstance(kind, IntDistribution) else ()
        return ParameterAxis(name, log, low, high, few=distinct if 1 < len(distinct) <= FEW else None)
    written = data.search.get(name, {}).get("choices", [])
    return _categories(name, given, list(written) if isinstance(written, Sequence) else [])


def _categories(name: str, given: Sequence[Any], written: Sequence[Any]) -> ParameterAxis:
    counts: dict[str, int] = {}
    values: dict[str, Any] = {}
    for value in given:
        counts[repr(value)] = counts.get(repr(value), 0) + 1
        values.setdefault(repr(value), value)
    order = _ordered(values, [repr(value) for value in written])
    kept = order
    if len(order) > MOST_LEVELS:
        often = {*sorted(order, key=lambda key: -counts[key])[: MOST_LEVELS - 1]}
        kept = [key for key in order if key in often]
    labels = [short(printable(shown(values[key])), LONGEST_LABEL) for key in kept]
    places = {key: place for place, key in enumerate(kept)}
    if len(kept) < len(order):
        labels.append(f"{len(order) - len(kept)} others")
        places = {key: places.get(key, len(kept)) for key in order}
    return ParameterAxis(name, labels=tuple(labels), places=places)


def _ordered(values: Mapping[str, Any], written: Sequence[str]) -> list[str]:
    """Numbers ascend; other choices come as they were written, then as they were tried."""
    if all(is_number(value) for value in values.values()):
        return sorted(values, key=lambda key: values[key])
    first = [key for key in dict.fromkeys(written) if key in values]
    return [*first, *(key for key in values if key not in {*first})]


def measured_axis(values: Sequence[float | None], title: str) -> tuple[dict[str, Any], str]:
    """An axis for measurements, and a note on what lies outside it; "" where nothing does.

    Positive ones of very different size stand on a logarithmic axis; of others, a few far outliers are left outside,
    where a double click finds them.
    """
    known = np.array([value for value in values if value is not None], dtype=float)
    axis: dict[str, Any] = {"title": {"text": plot_text(title)}, "automargin": True, "zeroline": False}
    if not len(known):
        return axis, ""
    low, high = float(known.min()), float(known.max())
    first, third = (float(quartile) for quartile in np.quantile(known, [0.25, 0.75]))
    if low > 0 and high / low > WIDE:
        return axis | logarithmic(low, high), ""
    spread = third - first
    near = known[(known >= first - FENCE * spread) & (known <= third + FENCE * spread)]
    if spread == 0 or len(near) == len(known):
        return axis, ""
    bottom, top = float(near.min()), float(near.max())
    margin = 0.05 * (top - bottom)
    axis |= {"range": [brief(bottom - margin), brief(top + margin)]}
    return axis, f"{len(known) - len(near):,} far outliers lie outside; a double click shows all."
