"""History: the value of each trial, and the best so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.analysis.trials import cells
from tuner.report.page.axes import measured_axis
from tuner.report.page.figures.figure import MARKS, Figure, best_point, layout, points, sentences
from tuner.report.page.numbers import brief, briefs, drawable

if TYPE_CHECKING:
    from tuner.report.page.source import Source


def history(source: Source) -> list[Figure]:
    """Values against trial numbers, states told apart; trials without a value stand in a strip below."""
    if not source.shown.numbers:
        return []
    traces, without = [], []
    for state in MARKS:
        numbers = [number for number in source.shown.numbers if source.states[number] == state]
        known = [number for number in numbers if source.values[number] is not None]
        lost = [number for number in numbers if source.values[number] is None]
        if known:
            traces.append(points(known, briefs(source.values[n] for n in known), known, state, state))
        if lost:
            strip = points(lost, [0] * len(lost), lost, state, state)
            without.append(strip | {"yaxis": "y2", "showlegend": not known, "legendgroup": state})
    traces += _best(source)
    values = [source.values[number] for number in source.shown.numbers]
    y, outside = measured_axis(values, source.analysis.metric)
    more: dict[str, Any] = {}
    if without:
        y["domain"] = [0.14, 1]
        more = {"yaxis2": {"domain": [0, 0.08], "range": [-1, 1], "showgrid": False, "zeroline": False}}
        more["yaxis2"] |= {"tickvals": [0], "ticktext": ["no value"], "fixedrange": True, "automargin": True}
    x = {"title": {"text": "trial"}, "anchor": "y2" if without else "y", "automargin": True}
    figure = layout(x, y, **more)
    return [Figure("history", "History", [*traces, *without], figure, sentences(source.shown.note, outside))]


def _best(source: Source) -> list[dict[str, Any]]:
    """The best value so far, as steps, and the best trial."""
    steps: list[tuple[int, float]] = []
    complete = source.data.complete
    for number, value in zip(cells(complete, "number"), cells(complete, "value"), strict=True):
        if drawable(value) is not None and (not steps or source.data.better(value, steps[-1][1])):
            steps.append((int(number), float(value)))
    if not steps:
        return []
    last = max(source.shown.numbers)
    ends = [*steps, (last, steps[-1][1])] if last > steps[-1][0] else steps
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "best so far",
        "x": [number for number, _ in ends],
        "y": [brief(value) for _, value in ends],
        "line": {"shape": "hv", "width": 2, "color": "accent"},
        "hoverinfo": "skip",
    }
    best, value = steps[-1]
    return [line, best_point(best, brief(value), best)]
