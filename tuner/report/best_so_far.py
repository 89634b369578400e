"""Best values so far of several studies as one plot on a terminal (plotille)."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuner.report.curves import MARGIN, is_log
from tuner.report.layout import folded
from tuner.report.words import measured, printable

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis.several import Several, Side

HEIGHT = 10
MOST_CURVES = 8
"""More curves than this in one plot could not be told apart."""

Line = tuple[list[float], list[float]]


def plot(several: Several, over: str, width: int) -> str:
    """The best values so far over `trials` or `seconds`, a letter a study; "" where there is nothing to draw.

    On a log scale where `is_log` says so, which the first line tells.
    """
    sides = several.sides[:MOST_CURVES]
    lines = [_line(side, over) for side in sides]
    heights = [value for _, values in lines for value in values]
    if not heights or not any(len(places) > 1 for places, _ in lines):
        return ""
    log = is_log(heights)
    letters = string.ascii_lowercase
    legend = [f"{letters[at]} {printable(side.study)}" for at, side in enumerate(sides)]
    about = f"{printable(several.metric)} over {_AXES[over]}{', log scale' if log else ''}"
    return f"{about}\n{folded(legend, width).plain}\n{_drawn(lines, log, width, over)}"


_AXES = {"trials": "trials", "seconds": "wall time in seconds"}


def _line(side: Side, over: str) -> Line:
    """A study's best value as a stair: level until it gets better."""
    run = side.progress
    places: Sequence[float | None] = run.trials if over == "trials" else run.seconds
    xs: list[float] = []
    ys: list[float] = []
    for place, value in zip(places, run.values, strict=True):
        if place is None or value is None:
            continue
        if ys and value != ys[-1]:
            xs.append(place)
            ys.append(ys[-1])
        xs.append(place)
        ys.append(value)
    return xs, ys


def _drawn(lines: Sequence[Line], log: bool, width: int, over: str) -> str:
    import plotille

    heights = [[math.log10(value) if log else value for value in values] for _, values in lines]
    low, high = min(map(min, filter(None, heights))), max(map(max, filter(None, heights)))
    margin = (high - low) / 16 or 1.0  # plotille leaves out what lies on the upper edge
    last = max(max(places) for places, _ in lines if places)
    figure = plotille.Figure()
    figure.width, figure.height, figure.with_colors = max(width - MARGIN, 16), HEIGHT, False
    figure.set_x_limits(min_=0, max_=last * 1.02 or 1)
    figure.set_y_limits(min_=low - margin, max_=high + margin)
    figure.x_label, figure.y_label = "", ""
    figure.x_ticks_fkt = lambda value, _: f"{value:.3g}"
    figure.y_ticks_fkt = lambda value, _: f"{measured(10**value if log else value):>10}"
    for letter, (places, _), values in zip(string.ascii_lowercase, lines, heights, strict=False):
        if places:
            figure.plot(places, values, marker=letter)
    rows = figure.show().splitlines()[1:]  # the first names an axis that has no name
    return "\n".join(row.removesuffix(" ()").rstrip(" \N{BRAILLE PATTERN BLANK}") for row in rows)
