"""Overfitting: the gap between validation and training loss against the value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.analysis.trials import cells
from tuner.report.page.axes import measured_axis
from tuner.report.page.figures.figure import Figure, best_point, layout, points, sentences
from tuner.report.page.numbers import brief, briefs, drawable

if TYPE_CHECKING:
    from tuner.report.page.source import Source


def gap(source: Source) -> list[Figure]:
    """A point a complete trial: those high up overfit."""
    every = [drawable(entry) for entry in cells(source.data.frame, "gap")]
    numbers = [number for number in source.complete if every[number] is not None]
    if not numbers:
        return []
    values, gaps = [source.values[number] for number in numbers], [every[number] for number in numbers]
    x, beyond = measured_axis(values, source.analysis.metric)
    y, outside = measured_axis(gaps, "validation loss less training loss")
    y["zeroline"] = True
    traces = [points(briefs(values), briefs(gaps), numbers, "complete", "complete", opacity=0.75)]
    best = source.analysis.best
    if best is not None and best.number in numbers:
        traces.append(best_point(brief(best.value), brief(gaps[numbers.index(best.number)]), best.number))
    note = sentences(source.shown.note, outside or beyond)
    return [Figure("gap", "Gap against value", traces, layout(x, y), note)]
