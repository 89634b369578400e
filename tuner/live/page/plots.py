"""Plots: curves over all steps, a mark at each change."""

from __future__ import annotations

import math
from typing import Any

from nicegui import ui

from tuner.live.page.history import Curve
from tuner.live.watching import Change

COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22")
"""Matplotlib's, which are told apart by most."""

FAINT = 0.3
MOST_MARKS = 40

LABEL_SHARE = 0.04
"""What a mark's words need of a plot's width; one that is nearer to the mark before it has none."""

AXIS_NUMBER = "(n) => n && (Math.abs(n) < 1e-3 || Math.abs(n) >= 1e6) ? (+n.toPrecision(3)).toExponential() : String(n)"
FAINT_LINES = {"lineStyle": {"opacity": 0.25}}


class Plot:
    """Curves by name, smoothed over what they really were; `select` says which of them are shown at first."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.names: tuple[str, ...] = ()
        self.chart = ui.echart(_options(title)).classes("w-full h-72")

    def draw(
        self,
        curves: dict[str, Curve],
        marks: list[tuple[int, str]],
        smoothing: float,
        logarithmic: bool,
        first: tuple[str, ...] = (),
    ) -> None:
        """Show curves as they are now; of those not in `first` (empty: all) only the name in the legend."""
        series: list[dict[str, Any]] = []
        steps = max((curve.points[-1].first for curve in curves.values() if curve.points), default=0)
        for number, (name, curve) in enumerate(curves.items()):
            color = COLORS[number % len(COLORS)]
            thin = len(curve.points) < 3
            if smoothing > 0:
                series.append(_line(name, curve.envelope(), color, FAINT, 1))
            line = curve.line(smoothing) if smoothing > 0 else curve.envelope()
            series.append(_line(name, line, color, 1.0, 2) | ({"showSymbol": True} if thin else {}))
        series.append({"type": "line", "data": [], "silent": True, "markLine": _marks(marks, steps)})
        options: dict[str, Any] = {
            "series": series,
            "yAxis": {"type": "log" if logarithmic else "value"},
            "legend": {"data": list(curves)},
        }
        if tuple(curves) != self.names:
            self.names = tuple(curves)
            options["legend"]["selected"] = {name: not first or name in first for name in curves}
        # Not through the element's options, which would be copied number by number.
        self.chart.run_chart_method("setOption", options, {"replaceMerge": ["series"]})


def _line(name: str, data: list[list[float]], color: str, opacity: float, width: int) -> dict[str, Any]:
    return {
        "name": name,
        "type": "line",
        "data": data,
        "showSymbol": False,
        "color": color,
        "lineStyle": {"width": width, "opacity": opacity},
        "emphasis": {"disabled": True},
    }


def _marks(marks: list[tuple[int, str]], steps: int) -> dict[str, Any]:
    """Lines over a plot of so many steps."""
    data, labelled = [], -math.inf
    for step, words in marks[-MOST_MARKS:]:
        has_room = step - labelled >= LABEL_SHARE * steps
        labelled = step if has_room else labelled
        data.append({"xAxis": step, "label": _label(words if has_room else "")})
    return {
        "symbol": "none",
        "silent": True,
        "lineStyle": {"color": "#888", "type": "dashed", "width": 1},
        "data": data,
    }


def _label(words: str) -> dict[str, Any]:
    return {"show": bool(words), "formatter": words, "fontSize": 10, "color": "#888", "position": "insideEndTop"}


def marks_of(changes: list[Change], labels: dict[str, str]) -> list[tuple[int, str]]:
    """Step and words of each mark; what changed at one step has one."""
    from tuner.live.page.changes import brief

    found: dict[int, list[str]] = {}
    for change in changes:
        if change.name not in ("save", "stop"):
            found.setdefault(change.step, []).append(brief(change, labels))
    return [(step, ", ".join(words)[:60]) for step, words in found.items()]


def _options(title: str) -> dict[str, Any]:
    return {
        "animation": False,
        "title": {"text": title, "left": 8, "top": 4, "textStyle": {"fontSize": 14, "color": "#888"}},
        "grid": {"left": 64, "right": 24, "top": 56, "bottom": 36},
        "legend": {
            "top": 4,
            "right": 8,
            "left": 120,
            "type": "scroll",
            "textStyle": {"color": "#888"},
            "inactiveColor": "#8886",
            "data": [],
        },
        "tooltip": {"trigger": "axis", "confine": True},
        "xAxis": {
            "type": "value",
            "name": "step",
            "nameLocation": "middle",
            "nameGap": 22,
            "max": "dataMax",
            "axisLabel": {"showMaxLabel": False},
            "splitLine": FAINT_LINES,
        },
        "yAxis": {
            "type": "value",
            "scale": True,
            "splitLine": FAINT_LINES,
            "axisLabel": {":formatter": AXIS_NUMBER},
        },
        "series": [],
    }
