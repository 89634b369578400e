"""A comparison of recipes on a terminal: what it says in words, then each measure over the levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tuner.report.group_readings import group_labels, groups_reading, method_lines
from tuner.report.layout import Column, fitting
from tuner.report.words import NOTHING, UNLIKELY, measured, p_value, plural, printable, short

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Comparison, Groups, LevelMean

MOST_LEVELS = 8
LONGEST_LABEL = 28
TITLES = {
    "results": "Results",
    "steadiness": "Steadiness of the training loss, step by step",
    "paths": "Paths",
}
EXPLAINED = {
    "steadiness": "variance and rises around a running trend (0.1 of a log is about 10%); spikes rise above 6 of the "
    "noise's robust standard deviations",
    "paths": "roughness: mean squared second difference of consecutive recorded points",
}


def print_groups(groups: Groups, console: Console) -> None:
    """Print the comparison: the reading, how it was made, then a table for each kind of measure.

    Fits any width from about 40 columns on; reads the same without colour.
    """
    console.print()
    console.print(Text(f"Comparison by {printable(groups.parameter)}", style="bold cyan"))
    console.print(Text(groups_reading(groups)))
    for line in method_lines(groups):
        console.print(Text(line, style="dim"))
    for kind, title in TITLES.items():
        rows = [entry for entry in groups.comparisons if entry.kind == kind]
        if rows and groups.levels:
            _print_table(groups, rows, title, EXPLAINED.get(kind, ""), console)
    _print_phases(groups, console)
    for note in groups.notes:
        console.print()
        console.print(Text(f"note: {printable(note)}"))


def _print_table(groups: Groups, rows: Sequence[Comparison], title: str, about: str, console: Console) -> None:
    _heading(title, about, console)
    shown = _most_tried(groups)
    two = len(groups.levels) == 2
    columns = [Column("", words=True), *(Column(short(label, LONGEST_LABEL)) for label in _labels(groups, shown))]
    columns += [Column("difference", dropped=1), Column("g", dropped=2)] if two else []
    columns += [Column("p")]
    cells = [_row(entry, shown, two) for entry in rows]
    console.print(fitting(console, columns, cells))
    if len(shown) < len(groups.levels):
        console.print(Text(f"and {plural(len(groups.levels) - len(shown), 'value')} more, with fewer trials"))


def _heading(title: str, about: str, console: Console) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    if about:
        console.print(Text(about, style="dim"))


def _row(entry: Comparison, shown: Sequence[int], two: bool) -> list[str]:
    tested = entry.tested
    effect = []
    if two:
        size = NOTHING if tested.hedges_g is None else f"{tested.hedges_g:+.2f}"
        effect = [interval(tested.difference, tested.low, tested.high), size]
    return [entry.measure, *(_mean(entry.levels[place]) for place in shown), *effect, chance(entry.p_adjusted)]


def _mean(level: LevelMean) -> str:
    return interval(level.mean, level.low, level.high)


def interval(middle: float | None, low: float | None, high: float | None) -> str:
    """`0.9700 +- 0.012`: a mean and half its interval, which is symmetric."""
    if middle is None or low is None or high is None:
        return measured(middle)
    return f"{measured(middle)} +- {(high - low) / 2:.2g}"


def chance(p: float | None) -> str:
    """A p-value as `p_value` has it, with a star where it is no more than `UNLIKELY`."""
    if p is None:
        return NOTHING
    return f"* {p_value(p)}" if p <= UNLIKELY else p_value(p)


def _most_tried(groups: Groups) -> list[int]:
    """The places of at most `MOST_LEVELS` levels, those with the most trials, in their order."""
    ranked = sorted(range(len(groups.levels)), key=lambda place: -len(groups.levels[place].trials))
    return sorted(ranked[:MOST_LEVELS])


def _labels(groups: Groups, shown: Sequence[int]) -> list[str]:
    labels = group_labels(groups)
    return [labels[place] for place in shown]


def _print_phases(groups: Groups, console: Console) -> None:
    """The variances within each phase, over the levels that have it."""
    entries = [entry for entry in groups.phases if entry.measure.startswith("variance")]
    if not entries:
        return
    _heading("Variance within each phase", "described, not tested", console)
    shown = _most_tried(groups)
    columns = [Column("", words=True), *(Column(short(label, LONGEST_LABEL)) for label in _labels(groups, shown))]
    names = {"": "before the first"}
    rows = [
        [
            f"{printable(names.get(entry.phase, entry.phase))}: {entry.measure.removeprefix('variance of ')}",
            *(_mean(entry.levels[place]) for place in shown),
        ]
        for entry in entries
    ]
    console.print(fitting(console, columns, rows))
