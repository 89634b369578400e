"""Timeline: when each trial began and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from tuner.report.page.figures.figure import MARKS, Figure, layout, sentences

if TYPE_CHECKING:
    from tuner.report.page.source import Source


def timeline(source: Source) -> list[Figure]:
    """A bar a trial, from its beginning to its end by the clock, coloured by what became of it."""
    started = source.data.frame["started"]
    completed = source.data.frame["completed"]
    now = max(started.max(), completed.max()) if not started.isna().all() else None
    numbers = [number for number in source.shown.numbers if not pd.isna(started.iloc[number])]
    if not numbers or now is None:
        return []
    traces: list[dict[str, Any]] = []
    thick = max(0.8, 0.8 * (numbers[-1] - numbers[0] + 1) / len(numbers))
    for state in MARKS:
        there = [number for number in numbers if source.states[number] == state]
        if not there:
            continue
        begun = [started.iloc[number] for number in there]
        ended = [now if pd.isna(completed.iloc[number]) else completed.iloc[number] for number in there]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": state,
                "y": there,
                "base": [time.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] for time in begun],
                "x": [
                    max(1, round((end - begin).total_seconds() * 1000)) for begin, end in zip(begun, ended, strict=True)
                ],
                "width": round(thick, 2),
                "customdata": there,
                "textposition": "none",
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {"color": state, "line": {"width": 0}},
            }
        )
    figure = layout({"type": "date", "automargin": True}, {"title": {"text": "trial"}, "automargin": True})
    figure["barmode"] = "overlay"
    how = "A bar is a trial, from its first to its last moment."
    height = min(560, 160 + 14 * len(numbers))
    return [Figure("timeline", "Timeline", traces, figure, sentences(how, source.shown.note), height=max(260, height))]
