"""Curves over steps: on a terminal (plotille), and as a picture (matplotlib)."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from tuner.report.words import printable, shown

LOG_RATIO = 50.0
"""A curve above zero whose largest value is so many times its median is drawn on a log scale."""

MARGIN = 18
"""Columns of a terminal that a plot's own axis takes."""


@dataclass(frozen=True)
class Curves:
    """What changes over a run of `steps` steps.

    `values` holds a value a step, by name; `constant` what stays as it is; `phases` are (name, first step, step
    behind the last); `actions` are (step, name).
    """

    about: str
    steps: int
    steps_per_epoch: int
    values: Mapping[str, list[float]]
    constant: Mapping[str, float]
    phases: tuple[tuple[str, int, int], ...] = ()
    actions: tuple[tuple[int, str], ...] = ()
    warnings: tuple[str, ...] = ()


def print_curves(curves: Curves, console: Console) -> None:
    """Print each curve that changes as a plot, the constant values as a line, phases and actions as lists."""
    console.print(Text(printable(curves.about), style="bold cyan"))
    for name, values in curves.values.items():
        console.print()
        scale = " (log scale)" if is_log(values) else ""
        span = f"{shown(values[0])} first, {shown(min(values))} to {shown(max(values))}, {shown(values[-1])} last"
        console.print(Text.assemble((printable(name), "bold"), f"{scale}: {span}"))
        console.print(Text(_plot(values, console.width)), soft_wrap=True)
    console.print()
    if curves.constant:
        listed = ", ".join(f"{printable(name)} {shown(value)}" for name, value in curves.constant.items())
        console.print(Text(f"constant: {listed}"))
    if curves.phases:
        listed = ", ".join(f"{printable(name)} from step {first}" for name, first, _ in curves.phases)
        console.print(Text(f"phases: {listed}"))
    if curves.actions:
        listed = ", ".join(f"{printable(name)} at step {step}" for step, name in curves.actions)
        console.print(Text(f"actions: {listed}"))


def is_log(values: Sequence[float]) -> bool:
    """Whether a curve is drawn on a log scale."""
    return min(values) > 0 and max(values) / statistics.median(values) > LOG_RATIO


def thinned(values: Sequence[float], most: int) -> tuple[list[int], list[float]]:
    """At most `most` steps and their values, the first and the last among them."""
    count = min(len(values), most)
    steps = sorted({round(place * (len(values) - 1) / max(1, count - 1)) for place in range(count)})
    return steps, [values[step] for step in steps]


def _plot(values: Sequence[float], width: int) -> str:
    """One curve as text."""
    import plotille

    steps, kept = thinned(values, 2 * max(width - MARGIN, 16))
    log = is_log(values)
    heights = [math.log10(value) for value in kept] if log else kept
    low, high = min(heights), max(heights)
    high += (high - low) / 16 or 1.0  # plotille leaves out what lies on the upper edge
    figure = plotille.Figure()
    figure.width, figure.height, figure.with_colors = max(width - MARGIN, 16), 8, False
    figure.set_x_limits(min_=0, max_=max(1, len(values) - 1))
    figure.set_y_limits(min_=low, max_=high)
    figure.x_label, figure.y_label = "step", ""
    figure.x_ticks_fkt = lambda value, _: f"{value:.0f}"
    figure.y_ticks_fkt = lambda value, _: f"{10**value if log else value:10.3g}"
    figure.plot(steps, heights)
    lines = figure.show().splitlines()[1:]  # the first names an axis that has no name
    return "\n".join(line.rstrip(" \N{BRAILLE PATTERN BLANK}") for line in lines)


def curves_png(curves: Curves) -> bytes:
    """The curves as a PNG picture, a panel each, phases shaded and actions marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown_curves = dict(curves.values) or {name: [value] * curves.steps for name, value in curves.constant.items()}
    figure = Figure(figsize=(9, 0.6 + 1.9 * len(shown_curves)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(curves.about, fontsize=10)
    axes = figure.subplots(len(shown_curves), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, values) in zip(axes, shown_curves.items(), strict=True):
        steps, kept = thinned(values, 4000)
        axis.plot(steps, kept, color="tab:blue", linewidth=1.3)
        axis.set_ylabel(name, fontsize=8)
        axis.set_yscale("log" if is_log(values) else "linear")
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        for place, (phase, first, end) in enumerate(curves.phases):
            axis.axvspan(first, end, color="tab:orange", alpha=0.12 if place % 2 else 0.04, linewidth=0)
            if axis is axes[0]:  # short phases stand side by side: every other name is higher up
                axis.annotate(
                    phase,
                    (first, 1),
                    xycoords=("data", "axes fraction"),
                    xytext=(0, 2 + 9 * (place % 2)),
                    textcoords="offset points",
                    fontsize=7,
                )
        for step, action in curves.actions:
            axis.axvline(step, color="tab:red", linewidth=0.8, linestyle="--")
            axis.annotate(action, (step, 0), xycoords=("data", "axes fraction"), fontsize=7, color="tab:red")
    axes[-1].set_xlabel("step", fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()
