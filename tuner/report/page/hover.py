"""What is read when a point is pointed at: the trial, what became of it, and its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuner.report.page.axes import plot_text
from tuner.report.words import measured, short_names, shown

if TYPE_CHECKING:
    from tuner.report.page.source import Source

MOST_PARAMETERS = 12
LONGEST_VALUE = 32


def hover_texts(source: Source, numbers: Sequence[int]) -> dict[int, str]:
    """A text for each of these trials, which the plots share; the most important parameters come first."""
    ranked = [entry.parameter for entry in source.analysis.impact.parameters]
    names = [*ranked, *(name for name in source.data.columns if name not in {*ranked})]
    briefly = dict(zip(names, short_names(names), strict=True))
    metric = plot_text(source.analysis.metric)
    return {number: _text(source, number, metric, briefly) for number in numbers}


def _text(source: Source, number: int, metric: str, names: dict[str, str]) -> str:
    lines = [f"trial {number}, {source.states[number]}"]
    value = source.values[number]
    lines += [] if value is None else [f"{metric} {measured(value)}"]
    active = [name for name in names if source.active(name, number)]
    lines += [
        f"{plot_text(names[name])} = {plot_text(shown(source.parameters[name][number]), LONGEST_VALUE)}"
        for name in active[:MOST_PARAMETERS]
    ]
    rest = len(active) - MOST_PARAMETERS
    return "<br>".join([*lines, *([f"and {rest} more"] if rest > 0 else [])])
