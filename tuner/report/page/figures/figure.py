"""Figure: a plot as plain data, its colours as names that the page's script looks up in the theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MARKS = {
    "complete": "circle",
    "pruned": "diamond",
    "diverged": "x",
    "failed": "square",
    "running": "triangle-up",
}
"""The symbol of each state: they are told apart without colours, too. Colours go by the states' names."""


@dataclass(frozen=True)
class Figure:
    """A plot: its traces and layout as Plotly's JSON has them, and the words around it.

    `note` says how to read it and what was left out. `height` is in pixels, and so is `least_width`, under which the
    plot scrolls in its box. `small` plots stand side by side where there is room. `bar` is for plots with room
    in their upper right corner for a row of buttons: a picture of it, zoom, pan, reset.
    """

    name: str
    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    note: str = ""
    height: int = 380
    least_width: int = 0
    small: bool = False
    bar: bool = True


def layout(x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A layout of two axes, with the legend in a row above the plot."""
    return plain_layout() | {"xaxis": _lined(x), "yaxis": _lined(y)} | more


def plain_layout() -> dict[str, Any]:
    """What all plots share."""
    return {
        "paper_bgcolor": "clear",
        "plot_bgcolor": "clear",
        "font": {"color": "text", "size": 12},
        "margin": {"l": 56, "r": 16, "t": 40, "b": 44},
        "hovermode": "closest",
        "modebar": {"bgcolor": "clear", "color": "line", "activecolor": "text"},
        "hoverlabel": {"align": "left", "bgcolor": "surface", "bordercolor": "line", "font": {"color": "text"}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    }


def _lined(axis: dict[str, Any]) -> dict[str, Any]:
    return {"gridcolor": "grid", "linecolor": "line", "zerolinecolor": "line", "zeroline": False} | axis


def points(
    x: Sequence[Any], y: Sequence[Any], numbers: Sequence[int | None], name: str, state: str, **marker: Any
) -> dict[str, Any]:
    """Points, each of a trial, whose text shows when it is pointed at."""
    look = {"symbol": MARKS[state], "color": state, "size": 7, "line": {"width": 0.5, "color": "surface"}}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": list(x),
        "y": list(y),
        "customdata": list(numbers),
        "hovertemplate": "%{text}<extra></extra>",
        "marker": look | marker,
    }


def best_point(x: Any, y: Any, number: int) -> dict[str, Any]:
    """The best trial as a star, over the other points."""
    return points([x], [y], [number], "best", "complete", symbol="star", size=15, color="accent")


def sentences(*parts: str) -> str:
    """Notes as a paragraph; those that are empty are left out."""
    return " ".join(part for part in parts if part)
