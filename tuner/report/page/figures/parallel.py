"""Parallel coordinates: each complete trial as a line through its parameters to its value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.report.page.axes import ParameterAxis, plot_text
from tuner.report.page.figures.figure import Figure, plain_layout, sentences
from tuner.report.page.numbers import brief, briefs
from tuner.report.words import short_names

if TYPE_CHECKING:
    from tuner.report.page.source import Source

MOST_AXES = 10
AXIS_WIDTH = 110
"""Pixels that an axis and its labels need."""

LONGEST_NAME, LONGEST_TICK = 16, 12


def parallel(source: Source) -> list[Figure]:
    """The most important parameters as axes, numbers on their scale and categories by name."""
    names = [entry.parameter for entry in source.varied[:MOST_AXES]]
    worst_first = source.complete if len({source.values[n] for n in source.complete}) > 1 else []
    if not names or not worst_first:
        return []
    numbers = sorted(worst_first, key=lambda n: source.values[n] or 0.0, reverse=not source.data.maximize)
    values = np.array([source.values[number] for number in numbers], dtype=float)
    heads = short_names(names)
    dimensions = [_dimension(source, name, head, numbers) for name, head in zip(names, heads, strict=True)]
    metric = plot_text(source.analysis.metric, LONGEST_NAME)
    dimensions.append({"label": metric, "values": briefs(values), "tickformat": "~g"})
    low, high = np.quantile(values, [0.1, 1.0] if source.data.maximize else [0.0, 0.9])
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "line": {
            "color": briefs(values),
            "colorscale": "scale",
            "reversescale": not source.data.maximize,
            "cmin": brief(low),
            "cmax": brief(high) if high > low else None,
        },
        "labelfont": {"color": "text", "size": 12},
        "tickfont": {"color": "text", "size": 11},
        "rangefont": {"color": "clear", "size": 1},
        "unselected": {"line": {"color": "grid", "opacity": 0.3}},
    }
    rest = len(source.varied) - len(names)
    left = f"The {len(names)} most important parameters are shown, {rest} are not." if rest else ""
    how = "Drag along an axis to keep the trials within; drag its name to move it."
    note = sentences("A line is a complete trial, the better ones in stronger colour.", how, left, source.shown.note)
    figure = plain_layout() | {"paper_bgcolor": "surface", "margin": {"l": 70, "r": 60, "t": 56, "b": 24}}
    width = AXIS_WIDTH * len(dimensions)
    return [Figure("parallel", "Parallel coordinates", [trace], figure, note, height=420, least_width=width, bar=False)]


def _dimension(source: Source, name: str, head: str, numbers: list[int]) -> dict[str, Any]:
    axis = source.axis(name)
    places = [axis.at(source.parameters[name][number]) for number in numbers]
    if axis.log:
        places = [None if place is None else math.log10(place) for place in places]
    ticks, texts, low, high = _ticks(axis)
    if any(place is None for place in places):  # a place of its own, below all others
        none = low - 0.12 * ((high - low) or 1.0)
        places = [none if place is None else place for place in places]
        ticks, texts, low = [none, *ticks], ["not set", *texts], none
    return {
        "label": plot_text(head, LONGEST_NAME),
        "values": briefs(places),
        "tickvals": briefs(ticks),
        "ticktext": texts,
        "range": [brief(low), brief(high if high > low else low + 1)],
    }


def _ticks(axis: ParameterAxis) -> tuple[list[float], list[str], float, float]:
    """Ticks, their texts, and the range that they stand in; logarithms of what is logarithmic."""
    if axis.labels is not None:
        texts = [plot_text(label, LONGEST_TICK) for label in axis.labels]
        return [float(place) for place in range(len(texts))], texts, 0.0, max(len(texts) - 1.0, 1.0)
    low, high = (math.log10(axis.low), math.log10(axis.high)) if axis.log else (axis.low, axis.high)
    if axis.few is not None:
        ticks = [math.log10(value) for value in axis.few] if axis.log else list(axis.few)
    else:
        ticks = [float(tick) for tick in np.linspace(low, high, 5 if high > low else 1)]
    return ticks, [_number(tick, high - low, axis.log) for tick in ticks], low, high


def _number(tick: float, span: float, log: bool) -> str:
    """A tick to 3 digits: of a logarithm those of its number, else those that the range leaves to be seen."""
    if log:
        return f"{10**tick:.3g}"
    near_zero = span > 0 and abs(tick) < span / 200
    return "0" if near_zero else f"{tick:.3g}"
