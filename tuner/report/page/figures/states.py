"""Stability: what became of the trials along the parameter that tells it best."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tuner.report.page.figures.figure import MARKS, Figure, layout, points, sentences
from tuner.report.words import printable, shown

if TYPE_CHECKING:
    from tuner.report.page.source import Source

SHIFT = 0.3
"""Points of a state are spread over so much of its row, up and down."""


def states(source: Source) -> list[Figure]:
    """A row a state: where trials diverged or failed, and where they did not; none where all went well."""
    name = _parameter(source)
    if name is None or not any(source.states[number] in ("diverged", "failed") for number in source.shown.numbers):
        return []
    axis, spread = source.axis(name), random.Random(0)
    ended = [state for state in MARKS if state != "running"]
    rows = [state for state in ended if any(source.states[number] == state for number in source.shown.numbers)]
    traces = []
    for row, state in enumerate(rows):
        there = [number for number in source.shown.numbers if source.states[number] == state]
        places = [(axis.at(source.parameters[name][number]), number) for number in there]
        known = [(place, number) for place, number in places if place is not None]
        heights = [round(row + spread.uniform(-SHIFT, SHIFT), 2) for _ in known]
        traces.append(
            points([p for p, _ in known], heights, [n for _, n in known], state, state, size=6) | {"showlegend": False}
        )
    y = {"tickvals": list(range(len(rows))), "ticktext": rows, "automargin": True, "showgrid": False}
    figure = layout(axis.layout(), y | {"range": [-0.6, len(rows) - 0.4]})
    figure["margin"] = figure["margin"] | {"t": 20}
    edge = next((entry for entry in source.analysis.stability.thresholds if entry.parameter == name), None)
    line = ""
    if edge is not None:
        at = {"xref": "x", "yref": "paper", "x0": edge.value, "x1": edge.value, "y0": 0, "y1": 1}
        figure["shapes"] = [at | {"type": "line", "line": {"color": "text", "dash": "dash", "width": 1.5}}]
        line = f"The dashed line is at {shown(edge.value)}: {edge.side} it, trials diverge."
    title = f"States along {printable(name)}"
    return [Figure("states", title, traces, figure, sentences(line, source.shown.note), height=120 + 60 * len(rows))]


def _parameter(source: Source) -> str | None:
    """The parameter that tells best which trials diverge, the learning rate, or the most important number."""
    if source.analysis.stability.telling:
        return source.analysis.stability.telling[0].parameter
    names = [entry.parameter for entry in source.varied]
    numbers = [name for name in names if source.axis(name).labels is None]
    return next(iter([*(name for name in names if name == "learning_rate"), *numbers, *names]), None)
