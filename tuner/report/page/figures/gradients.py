"""Stability: the median gradient norm of each trial against its value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.report.page.axes import logarithmic, measured_axis
from tuner.report.page.figures.figure import Figure, layout, points, sentences
from tuner.report.page.numbers import brief, briefs, drawable

if TYPE_CHECKING:
    from tuner.report.page.source import Source


def gradients(source: Source) -> list[Figure]:
    """A point a complete trial whose gradient norms were recorded."""
    epochs = source.data.records.epochs
    if epochs.empty:
        return []
    wanted = epochs[epochs["trial"].isin(source.complete)]
    medians = wanted.groupby("trial")["gradient_norm"].median()
    norms = {int(number): norm for number, value in medians.items() if (norm := drawable(value))}  # type: ignore[call-overload]
    numbers = [number for number in source.complete if number in norms]
    if len({norms[number] for number in numbers}) < 2:
        return []
    values = [source.values[number] for number in numbers]
    y, outside = measured_axis(values, source.analysis.metric)
    traces = [points([brief(norms[n]) for n in numbers], briefs(values), numbers, "complete", "complete", opacity=0.75)]
    x, _ = measured_axis([norms[number] for number in numbers], "median gradient norm")
    if min(norms.values()) > 0:
        x = {key: value for key, value in x.items() if key != "range"} | logarithmic(
            min(norms.values()), max(norms.values())
        )
    figure = layout(x, y, showlegend=False)
    figure["margin"] = figure["margin"] | {"t": 16}
    note = sentences("A point is a complete trial.", source.shown.note, outside)
    return [Figure("gradients", "Gradient norm against value", traces, figure, note)]
