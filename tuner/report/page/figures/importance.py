"""Importance of each parameter, with its interval where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.report.page.axes import plot_text
from tuner.report.page.figures.figure import Figure, layout, sentences
from tuner.report.page.numbers import brief
from tuner.report.words import short_names

if TYPE_CHECKING:
    from tuner.report.page.source import Source

MOST_BARS = 20
LONGEST_NAME = 24


def importance(source: Source) -> list[Figure]:
    """A bar a parameter, the largest on top; what may be chance is paler."""
    known = [entry for entry in source.varied if entry.importance is not None]
    if len(known) < 2:
        return []
    known.sort(key=lambda entry: -(entry.importance or 0.0))
    bars = known[:MOST_BARS][::-1]
    names = short_names([entry.parameter for entry in bars])
    trace: dict[str, Any] = {
        "type": "bar",
        "orientation": "h",
        "x": [brief(entry.importance) for entry in bars],
        "y": list(range(len(bars))),
        "text": [f"{entry.importance:.2f}" for entry in bars],
        "textposition": "none",
        "hovertext": [f"{plot_text(entry.parameter)}: {entry.importance:.2f}" for entry in bars],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"color": "complete", "opacity": [1 if entry.sure else 0.45 for entry in bars]},
    }
    intervals = any(entry.low is not None for entry in bars)
    if intervals:
        trace["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": [brief(max(0.0, (entry.high or 0.0) - (entry.importance or 0.0))) for entry in bars],
            "arrayminus": [brief(max(0.0, (entry.importance or 0.0) - (entry.low or 0.0))) for entry in bars],
            "color": "text",
            "thickness": 1.2,
        }
    labels = [plot_text(name, LONGEST_NAME) for name in names]
    y = {"tickvals": list(range(len(bars))), "ticktext": labels, "automargin": True, "showgrid": False}
    figure = layout({"title": {"text": "importance"}, "rangemode": "tozero"}, y, showlegend=False, bargap=0.35)
    figure["margin"] = figure["margin"] | {"t": 8}
    rest = len(known) - len(bars)
    note = sentences(
        "Bars that may be chance are pale." if any(not entry.sure for entry in bars) else "",
        "Lines are 90% intervals." if intervals else "",
        f"{rest} less important parameters are left out." if rest else "",
    )
    return [Figure("importance", "Importance", [trace], figure, note, height=90 + 30 * len(bars), bar=False)]
