"""Slices: the value against each parameter by itself."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from tuner.report.page.axes import measured_axis
from tuner.report.page.figures.figure import Figure, best_point, layout, points, sentences
from tuner.report.page.numbers import brief, briefs

if TYPE_CHECKING:
    from tuner.report.page.source import Source


def slices(source: Source) -> list[Figure]:
    """A plot a parameter, the most important first, of the complete trials."""
    entries = [entry.parameter for entry in source.varied[: source.limits.slices]]
    found = [figure for place, name in enumerate(entries) if (figure := _slice(source, name, place)) is not None]
    rest = len(source.varied) - len(entries)
    if not found or not rest:
        return found
    last = found[-1]
    note = sentences(last.note, f"Slices of {rest} less important parameters are left out.")
    return [*found[:-1], replace(last, note=note)]


def _slice(source: Source, name: str, place: int) -> Figure | None:
    axis = source.axis(name)
    active = [number for number in source.complete if axis.at(source.parameters[name][number]) is not None]
    if not active:
        return None
    values = [source.values[number] for number in active]
    spread = random.Random(0)  # trials of one category would hide one another
    shift = 0.18 if axis.labels is not None else 0.0
    places = [(axis.at(source.parameters[name][n]) or 0.0) + spread.uniform(-shift, shift) for n in active]
    x = [brief(entry) for entry in places] if axis.labels is None else [round(entry, 2) for entry in places]
    y, outside = measured_axis(values, source.analysis.metric)
    trace = points(x, briefs(values), active, "complete", "complete", opacity=0.7, size=6)
    best = source.analysis.best
    traces = [trace]
    if best is not None and best.number in active:
        traces.append(best_point(x[active.index(best.number)], brief(best.value), best.number))
    figure = layout(axis.layout(), y, showlegend=False)
    figure["margin"] = figure["margin"] | {"t": 8}
    left = source.shown.note if place == 0 else ""  # once is enough for a row of plots
    return Figure(f"slice-{place}", name, traces, figure, sentences(left, outside), height=280, small=True)
