"""Several studies side by side: in words and tables, on a terminal with their curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from tuner.report.best_so_far import plot
from tuner.report.groups import chance, interval, print_groups
from tuner.report.layout import Column
from tuner.report.printing import print_section
from tuner.report.section import Part, Section
from tuner.report.words import NOTHING, UNLIKELY, duration, measured, p_value, plural, printable, short, shown

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis
    from tuner.analysis.several import Difference, Point, Several, Side

LONGEST_CELL = 24


def print_several(several: Several, console: Console) -> None:
    """Print the comparison: each section's reading, facts and tables, and the best values so far as plots.

    Where levels were asked for, they stand in place of all but the first section. Fits any width from about 40 columns
    on; reads the same without colour, and without the plots.
    """
    every = several_sections(several)
    if several.groups is not None:
        print_section(every[0], console)
        print_groups(several.groups, console)
        return
    for place, section in enumerate(every):
        if place:
            console.print()
        print_section(section, console)
        if section.title == PROGRESS:
            for over in ("trials", "seconds"):
                drawn = plot(several, over, console.width)
                if drawn:
                    console.print()
                    console.print(Text(drawn), soft_wrap=True)


PROGRESS = "Best value so far"


def several_sections(several: Several) -> list[Section]:
    """The sections of a comparison: the studies, their progress, their best settings, and what chance could do."""
    return [
        _studies_section(several),
        _progress_section(several),
        _settings_section(several),
        _chance_section(several),
    ]


# The studies.


def _studies_section(several: Several) -> Section:
    pairs = list(zip(several.studies, several.sides, strict=True))
    rows = [(name, *(tell(*pair) for pair in pairs)) for name, tell in FACTS.items()]
    kept = tuple(row for row in rows if {*row[1:]} != {NOTHING})
    columns = (Column("", words=True), *(Column(_name(entry.name)) for entry in several.studies))
    notes = tuple(f"note: {printable(note)}" for note in several.notes)
    return Section(
        "Studies side by side", studies_reading(several), parts=(Part(columns, kept, turns=True),), notes=notes
    )


def studies_reading(several: Several) -> str:
    """What each study's best is."""
    metric, side = printable(several.metric), "highest" if several.direction == "maximize" else "lowest"
    known = [entry for entry in several.studies if entry.best is not None]
    if not known:
        return "no study has a complete trial with a value"
    listed = ", ".join(
        f"{printable(entry.name)} {measured(entry.best.value)} (of {plural(entry.counts.counted, 'trial')})"
        for entry in known
        if entry.best is not None
    )
    return f"best {metric} ({side} is best): {listed}"


def _count(state: str) -> Callable[[Analysis, Side], str]:
    return lambda analysis, side: str(analysis.counts.here(state) or NOTHING)


def _mean(analysis: Analysis, side: Side) -> str:
    return measured(None if analysis.spread is None else analysis.spread.mean)


def _deviation(deviation: float | None) -> str:
    return NOTHING if deviation is None else f"{deviation:.2g}"


def _gain(analysis: Analysis, side: Side) -> str:
    gain = None if analysis.gain is None else analysis.gain.gain
    return NOTHING if gain is None else f"{gain:+.4g}"


def _time(seconds: float | None) -> str:
    return NOTHING if seconds is None else duration(seconds)


FACTS: dict[str, Callable[[Any, Any], str]] = {
    "trials": lambda analysis, side: str(analysis.counts.counted),
    "complete": _count("complete"),
    "pruned": _count("pruned"),
    "diverged": _count("diverged"),
    "failed": _count("failed"),
    "best": lambda analysis, side: NOTHING if analysis.best is None else measured(analysis.best.value),
    "best trial": lambda analysis, side: NOTHING if analysis.best is None else str(analysis.best.number),
    "gain over the default": _gain,
    "mean of the best few": lambda analysis, side: measured(side.mean),
    "trials among the best few": lambda analysis, side: str(side.top or NOTHING),
    "deviation of the best few": lambda analysis, side: _deviation(side.deviation),
    "mean of all complete": _mean,
    "deviation of all": lambda analysis, side: _deviation(
        None if analysis.spread is None else analysis.spread.deviation
    ),
    "training time": lambda analysis, side: _time(analysis.total_seconds),
    "time of a trial": lambda analysis, side: _time(analysis.seconds_per_trial),
    "wall time": lambda analysis, side: _time(side.wall_seconds),
}
"""What is told of each study, by what it is called; deviations are standard deviations over trials."""


def _name(name: str) -> str:
    return short(printable(name), LONGEST_CELL)


# Progress.


def _progress_section(several: Several) -> Section:
    names = [entry.name for entry in several.studies]
    parts = [
        _points(names, several.by_trials, "trials", lambda at: str(round(at))),
        _points(names, several.by_seconds, "wall time", duration),
    ]
    told = tuple(part for part in parts if part.rows)
    return Section(PROGRESS, progress_reading(several), parts=told)


def progress_reading(several: Several) -> str:
    """Which study is ahead as far as all of them went, by trials and by time."""
    sayings = []
    for points, tell in ((several.by_trials, _count_of_trials), (several.by_seconds, _span)):
        last = next((point for point in reversed(points) if point.shared), None)
        if last is not None:
            sayings.append(f"after {tell(last.at)} each {_who(last)}")
    return "; ".join(sayings) or "not every study has trials that ended, so none is ahead"


def _count_of_trials(at: float) -> str:
    return plural(round(at), "trial")


def _span(at: float) -> str:
    return f"{duration(at)} of wall time"


def _who(point: Point) -> str:
    known = [value for value in point.values if value is not None]
    if point.ahead is not None:
        return f"{printable(point.ahead)} is ahead"
    return "the best are level" if known else "none has a value"


def _points(names: Sequence[str], points: Sequence[Point], head: str, tell: Callable[[float], str]) -> Part:
    columns = (Column(head, words=True), *(Column(_name(name)) for name in names), Column("ahead", words=True))
    rows = tuple((tell(point.at), *map(measured, point.values), _ahead_cell(point)) for point in points)
    return Part(columns, rows)


def _ahead_cell(point: Point) -> str:
    if not point.shared:
        return "(another had ended)"
    return NOTHING if point.ahead is None else _name(point.ahead)


# Settings.


def _settings_section(several: Several) -> Section:
    names = [entry.name for entry in several.studies]
    rows = tuple(
        (
            printable(entry.parameter),
            *(short(shown(entry.values[name]), LONGEST_CELL) if name in entry.values else NOTHING for name in names),
        )
        for entry in several.settings
    )
    if not rows:
        return Section("Best settings", "the best trials differ in no setting")
    columns = (Column("", words=True), *(Column(_name(name)) for name in names))
    reading = f"the best trials differ in {plural(len(rows), 'setting')}"
    return Section("Best settings", reading, parts=(Part(columns, rows, turns=True),))


# Chance.


def _chance_section(several: Several) -> Section:
    rows = tuple(_difference_row(entry) for entry in several.differences)
    columns = (
        Column("", words=True), Column("over", words=True, dropped=2), Column("first"), Column("second"),
        Column("difference", dropped=1), Column("p"),
    )  # fmt: skip
    parts = (Part(columns, rows),) if rows else ()
    return Section("More than chance?", "\n".join(chance_reading(several)), parts=parts)


def _difference_row(entry: Difference) -> tuple[str, ...]:
    tested = entry.tested
    means = (interval(side.mean, side.low, side.high) for side in (entry.first_mean, entry.second_mean))
    return (
        f"{_name(entry.first)} (trial {entry.first_trial}) - {_name(entry.second)} (trial {entry.second_trial})",
        f"{entry.split}, {tested.test}" if tested.test else entry.split,
        *means,
        interval(tested.difference, tested.low, tested.high),
        chance(entry.p_adjusted),
    )


def chance_reading(several: Several) -> list[str]:
    """What can be told from fresh seeds, a sentence a pair; and what cannot, with the command that would tell."""
    found = [_difference_reading(entry) for entry in several.differences]
    many = len(several.unconfirmed) + len(several.unconfirmable)
    if many:
        found.append(
            "One best value against another tells little: each is the best of many draws, the more trials the luckier."
        )
    if several.unconfirmed:
        commands = "; ".join(f"tuner confirm {printable(name)}" for name in several.unconfirmed)
        found.append(f"Train the best again over fresh seeds, then compare again: {commands}")
    if several.unconfirmable:
        listed = ", ".join(map(printable, several.unconfirmable))
        found.append(f"{listed}: nothing that `tuner confirm` could train again.")
    return found


def _difference_reading(entry: Difference) -> str:
    where = "the test split" if entry.split == "test" else "validation"
    names = f"{printable(entry.first)} and {printable(entry.second)}"
    if entry.p_adjusted is None:
        return f"{names} over fresh seeds: {entry.tested.reason or 'not tested'}."
    if entry.p_adjusted > UNLIKELY or entry.better is None:
        return (
            f"{names} cannot be told apart over fresh seeds on {where} "
            f"(p {p_value(entry.p_adjusted)}, {entry.tested.test})."
        )
    other = entry.second if entry.better == entry.first else entry.first
    return (
        f"{printable(entry.better)} is better than {printable(other)} over fresh seeds on {where}, by "
        f"{measured(abs(entry.tested.difference or 0.0))} "
        f"(p {p_value(entry.p_adjusted)}, {entry.tested.test})."
    )
