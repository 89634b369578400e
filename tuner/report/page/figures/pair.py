"""The strongest pair of parameters: mean values over both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.analysis.trials import cells
from tuner.report.page.axes import ParameterAxis
from tuner.report.page.figures.figure import Figure, layout, points, sentences
from tuner.report.page.numbers import brief, briefs, drawable
from tuner.report.words import printable

if TYPE_CHECKING:
    from tuner.report.page.source import Source

FEWEST_CELLS, MOST_CELLS = 3, 12
"""Cells along an axis of numbers."""

TRIALS_A_CELL = 3
"""The grid is as fine as leaves so many complete trials to a cell on average."""


def pair(source: Source) -> list[Figure]:
    """A map of mean values of the complete trials in each cell of two parameters, and the trials on it."""
    names = _strongest(source)
    if names is None:
        return []
    first, second = (source.axis(name) for name in names)
    complete = source.data.complete
    columns = [
        [axis.at(value) for value in cells(complete, source.data.columns[axis.name])] for axis in (first, second)
    ]
    rows = zip(*columns, cells(complete, "value"), strict=True)
    known = [row for row in rows if None not in row and drawable(row[2]) is not None]
    if len(known) < 2:
        return []
    fine = min(MOST_CELLS, max(FEWEST_CELLS, int(math.sqrt(len(known) / TRIALS_A_CELL))))
    x_edges, y_edges = _edges(first, fine), _edges(second, fine)
    grid = _means([(x or 0.0, y or 0.0, value) for x, y, value in known], first, second, x_edges, y_edges)
    traces = [_map(source, grid, x_edges, y_edges), _points(source, first, second)]
    figure = layout(_framed(first, x_edges), _framed(second, y_edges), showlegend=False)
    figure["margin"] = figure["margin"] | {"t": 16}
    metric = printable(source.analysis.metric)
    note = sentences(f"Mean {metric} of the complete trials in each cell; points are trials.", source.shown.note)
    title = f"{printable(names[0])} and {printable(names[1])}"
    return [Figure("pair", title, traces, figure, note, height=440, bar=False)]


def _strongest(source: Source) -> tuple[str, str] | None:
    """The pair that acts together most, or the two most important parameters where none can be told."""
    if source.analysis.interactions.pairs:
        strongest = source.analysis.interactions.pairs[0]
        return strongest.first, strongest.second
    names = [entry.parameter for entry in source.varied[:2]]
    return (names[0], names[1]) if len(names) == 2 else None


def _edges(axis: ParameterAxis, fine: int) -> list[float]:
    """The cells' edges along an axis: around each category, or evenly along the numbers, of logarithms if they are."""
    if axis.labels is not None:
        return [place - 0.5 for place in range(len(axis.labels) + 1)]
    low, high = (math.log10(axis.low), math.log10(axis.high)) if axis.log else (axis.low, axis.high)
    if high == low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, fine + 1)
    return [float(edge) for edge in (10**edges if axis.log else edges)]


def _framed(axis: ParameterAxis, edges: Sequence[float]) -> dict[str, Any]:
    """The axis as far as its cells reach, and a little more, so that no point is cut."""
    low, high = (math.log10(edges[0]), math.log10(edges[-1])) if axis.log else (edges[0], edges[-1])
    margin = 0.02 * (high - low)
    return axis.layout() | {"range": [low - margin, high + margin], "showgrid": False}


def _means(
    known: Sequence[tuple[float, float, float]],
    first: ParameterAxis,
    second: ParameterAxis,
    x_edges: Sequence[float],
    y_edges: Sequence[float],
) -> list[list[float | None]]:
    """Mean values, a row a cell of `second`; None where no trial is."""
    sums, counts = (np.zeros((len(y_edges) - 1, len(x_edges) - 1)) for _ in range(2))
    for x, y, value in known:
        column, row = _cell(x, x_edges), _cell(y, y_edges)
        sums[row, column] += value
        counts[row, column] += 1
    return [
        [brief(total / count) if count else None for total, count in zip(*line, strict=True)]
        for line in zip(sums.tolist(), counts.tolist(), strict=True)
    ]


def _cell(place: float, edges: Sequence[float]) -> int:
    return min(max(int(np.searchsorted(edges, place, side="right")) - 1, 0), len(edges) - 2)


def _map(
    source: Source, grid: list[list[float | None]], x_edges: Sequence[float], y_edges: Sequence[float]
) -> dict[str, Any]:
    return {
        "type": "heatmap",
        "x": briefs(x_edges),
        "y": briefs(y_edges),
        "z": grid,
        "colorscale": "scale",
        "reversescale": not source.data.maximize,
        "hovertemplate": "mean %{z:.4g}<extra></extra>",
        "hoverongaps": False,
        "colorbar": {"thickness": 12, "outlinewidth": 0, "tickformat": "~g", "tickfont": {"color": "text"}},
    }


def _points(source: Source, first: ParameterAxis, second: ParameterAxis) -> dict[str, Any]:
    there: list[tuple[float, float, int]] = []
    for number in source.complete:
        across, up = (axis.at(source.parameters[axis.name][number]) for axis in (first, second))
        if across is not None and up is not None:
            there.append((across, up, number))
    x, y, numbers = [entry[0] for entry in there], [entry[1] for entry in there], [entry[2] for entry in there]
    return points(x, y, numbers, "trials", "complete", size=6, color="dot", line={"width": 1, "color": "dot_line"})
