"""Learning curves: what every trial reported, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuner.analysis.trials import even
from tuner.report.page.axes import measured_axis
from tuner.report.page.figures.figure import Figure, layout, points, sentences
from tuner.report.page.numbers import brief, drawable
from tuner.report.page.thinning import choose

if TYPE_CHECKING:
    from tuner.report.page.source import Source

FEWEST_POINTS = 20
"""A curve is not thinned further than this."""

LOOKS = {"pruned": ("pruned", 0.35, 1.0), "failed": ("failed", 0.5, 1.0), "running": ("running", 0.9, 1.2),
         "complete": ("complete", 0.4, 1.0), "diverged": ("diverged", 0.8, 1.2)}  # fmt: skip
"""Colour, opacity and width of the curves of each state, in the order they are drawn."""


@dataclass(frozen=True)
class Curve:
    """A trial's reports: steps and values, each (points,)."""

    number: int
    steps: NDArray[np.int64]
    values: NDArray[np.float64]


def curves(source: Source) -> list[Figure]:
    """All curves: the pruned faded, the diverged marked where they ended, the best on top."""
    found, metric = _reported(source)
    limits = source.limits
    chosen = choose(source.data, [*found], limits.curves, limits.best_curves, limits.diverged_curves, "learning curves")
    most = max(FEWEST_POINTS, limits.points // max(1, len(chosen.numbers)))
    shown = [_thinned(found[number], most) for number in chosen.numbers]
    if not any(len(curve.steps) for curve in shown):
        return []
    traces = []
    for state, look in LOOKS.items():
        group = [curve for curve in shown if source.states[curve.number] == state]
        traces += [_lines(group, state, *look)] if group else []
        traces += [_ends(group)] if group and state == "diverged" else []
    best = None if source.analysis.best is None else source.analysis.best.number
    traces += [_lines([curve], "best", "accent", 1.0, 3.0) for curve in shown if curve.number == best]
    y, outside = measured_axis([drawable(value) for curve in shown for value in curve.values], metric)
    longest = max(len(found[number].steps) for number in chosen.numbers)
    thin = f"Of long curves {most:,} points at most are drawn, evenly spread." if longest > most else ""
    note = sentences(chosen.note, thin, outside)
    x = {"title": {"text": "epoch" if source.analysis.task else "step"}, "automargin": True}
    return [Figure("curves", "Learning curves", traces, layout(x, y), note, height=440)]


def _reported(source: Source) -> tuple[dict[int, Curve], str]:
    """The reports of each trial, or its validation losses where nothing was reported; and what they are."""
    records = source.data.records
    if not records.reports.empty:
        return _by_trial(records.reports["trial"], records.reports["step"], records.reports["value"], source), (
            source.analysis.metric
        )
    epochs = records.epochs
    return _by_trial(epochs["trial"], epochs["epoch"], epochs["val_loss"], source), "validation loss"


def _by_trial(trials: Any, steps: Any, values: Any, source: Source) -> dict[int, Curve]:
    """The columns, sorted by trial, cut where a new trial begins."""
    numbers, every, reported = trials.to_numpy(), steps.to_numpy(), values.to_numpy(dtype=float)
    firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
    ends = [*firsts, len(numbers)][1:]
    return {
        int(numbers[first]): Curve(int(numbers[first]), every[first:end], reported[first:end])
        for first, end in zip(firsts, ends, strict=True)
        if source.states[int(numbers[first])] in LOOKS
    }


def _thinned(curve: Curve, most: int) -> Curve:
    """The curve with at most so many of its points that can be drawn."""
    known = np.flatnonzero(np.array([drawable(value) is not None for value in curve.values], dtype=bool))
    kept = even(known.tolist(), most)
    return Curve(curve.number, curve.steps[kept], curve.values[kept])


def _lines(group: Sequence[Curve], name: str, colour: str, opacity: float, width: float) -> dict[str, Any]:
    """Curves as one trace, with a break after each."""
    x: list[int | None] = []
    y: list[float | None] = []
    numbers: list[int | None] = []
    for curve in group:
        x += [*curve.steps.tolist(), None]
        y += [*map(brief, curve.values.tolist()), None]
        numbers += [curve.number] * len(curve.steps) + [None]
    single = all(len(curve.steps) < 2 for curve in group)
    return {
        "type": "scatter",
        "mode": "markers" if single else "lines",
        "name": name,
        "x": x,
        "y": y,
        "customdata": numbers,
        "opacity": opacity,
        "line": {"color": colour, "width": width},
        "marker": {"color": colour, "size": 7},
        "hovertemplate": "%{text}<br>at %{x}: %{y:.4g}<extra></extra>",
    }


def _ends(group: Sequence[Curve]) -> dict[str, Any]:
    """Where curves ended that diverged."""
    last = [curve for curve in group if len(curve.steps)]
    steps, values = [int(curve.steps[-1]) for curve in last], [brief(curve.values[-1]) for curve in last]
    numbers = [curve.number for curve in last]
    return points(steps, values, numbers, "diverged", "diverged", size=8) | {"showlegend": False}
