"""An analysis on a terminal: Summary, Top trials, Impact of each parameter, Gap; or Summary and a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tuner.report.expected import standing_reading
from tuner.report.groups import print_groups
from tuner.report.layout import Column, fits, fitting, plain_table, stacked
from tuner.report.readings import (
    best_level,
    best_level_reading,
    best_reading,
    gain_reading,
    gap_reading,
    impact_reading,
    labels,
    recorded_beside,
    stands_out,
    top_reading,
    trials_reading,
    uncounted_reading,
)
from tuner.report.words import NOTHING, duration, measured, percent, plural, printable, short, short_names, shown

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis, Level, ParameterImpact, TopTrial

MOST_REASONS = 8
MOST_LEVELS = 12
LONGEST_CELL = 28


def print_analysis(analysis: Analysis, console: Console) -> None:
    """Print the whole analysis: each section's reading in words, then its table.

    Where a comparison was asked for, it stands in place of all but the summary.
    Fits any width from about 40 columns on; reads the same without colour.
    """
    _print_summary(analysis, console)
    if analysis.groups is not None:
        print_groups(analysis.groups, console)
        return
    _print_top(analysis, console)
    _print_impact(analysis, console)
    _print_gap(analysis, console)


def _heading(console: Console, title: str, reading: str) -> None:
    console.print()
    console.print(Text(title, style="bold cyan"))
    console.print(Text(reading))


def _print_summary(analysis: Analysis, console: Console) -> None:
    console.print(Text("Summary", style="bold cyan"))
    console.print(Text(best_reading(analysis), style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, content in _summary(analysis):
        grid.add_row(name, content)
    console.print(Padding(grid, (1, 0, 0, 0)))


def _summary(analysis: Analysis) -> list[tuple[str, Text]]:
    """The rows of the summary: a name and its content."""
    rows = [("study", Text(printable(analysis.name)))]
    if analysis.task:
        mode = f", mode {analysis.mode}" if analysis.mode else ""
        rows.append(("task", Text(printable(f"{analysis.task}{mode}"))))
    epochs = any(trial.epochs_asked for trial in analysis.top.trials)
    words = {"best": ", each trial's best epoch", "last": ", each trial's last epoch"}
    epoch = words.get(analysis.value or "", "") if epochs else ""
    rows.append(("metric", Text(printable(f"{analysis.metric}, {analysis.direction}{epoch}"))))
    if analysis.best and analysis.best.parameters:
        rows.append(("best has", _parameters(analysis.best.parameters)))
    gain = gain_reading(analysis)
    if gain:
        rows.append(("gain", Text(gain)))
    beside = recorded_beside(analysis)
    if beside:
        rows.append(("recorded", Text(beside)))
    if analysis.expect is not None:
        rows.append(("expected", Text(standing_reading(analysis.expect))))
    rows.append(("trials", Text(trials_reading(analysis))))
    uncounted = uncounted_reading(analysis)
    if uncounted:
        rows.append(("not counted", Text(uncounted)))
    if analysis.total_seconds is not None and analysis.seconds_per_trial is not None:
        each = duration(analysis.seconds_per_trial)
        rows.append(("training", Text(f"{duration(analysis.total_seconds)} in all, {each} a trial")))
    if analysis.counts.reasons:
        rows.append(("reasons", _reasons(analysis)))
    return rows


def _reasons(analysis: Analysis) -> Text:
    """Why trials ended, one reason a line."""
    reasons = analysis.counts.reasons
    lines = [f"{entry.trials} x {short(printable(entry.text), 100)}" for entry in reasons[:MOST_REASONS]]
    rest = len(reasons) - MOST_REASONS
    return Text("\n".join([*lines, *([f"and {plural(rest, 'reason')} more"] if rest > 0 else [])]))


def _parameters(values: dict[str, Any]) -> Text:
    """Parameters as `--set` takes them: `learning_rate=0.003162 model.heads=4`."""
    return Text(" ".join(f"{printable(name)}={short(shown(value), 60)}" for name, value in values.items()))


def _print_top(analysis: Analysis, console: Console) -> None:
    _heading(console, "Top trials", top_reading(analysis))
    top = analysis.top
    if not top.trials:
        return
    if top.shared and len(top.trials) > 1:
        console.print(Text("in all of them ").append_text(_parameters(top.shared)))
    columns = [
        Column("trial"),
        Column("value"),
        *_extra_columns(top.trials),
        *map(Column, short_names(top.differing)),
    ]
    rows = [_top_row(trial, columns, top.differing) for trial in top.trials]
    table = plain_table(columns, rows, bold=0)
    if not fits(console, table):  # parameters downwards take less room, unless the terminal is very narrow
        turned = [list(line) for line in zip(*rows, strict=True)]
        heads = [Column("trial", words=True), *map(Column, turned[0])]
        names = [column.header for column in columns[1:]]
        table = plain_table(heads, [[name, *line] for name, line in zip(names, turned[1:], strict=True)])
    console.print(table if fits(console, table) else stacked(console, columns, rows, bold=0))


def _extra_columns(trials: tuple[TopTrial, ...]) -> list[Column]:
    """Gap and epochs, where some trial has them."""
    gap = any(trial.gap is not None for trial in trials)
    epochs = any(trial.epochs_done is not None for trial in trials)
    return [*([Column("gap")] if gap else []), *([Column("epochs")] if epochs else [])]


def _top_row(trial: TopTrial, columns: list[Column], differing: tuple[str, ...]) -> list[str]:
    headers = [column.header for column in columns[: len(columns) - len(differing)]]
    asked = "" if trial.epochs_asked is None else f"/{trial.epochs_asked}"
    cells = {
        "trial": str(trial.number),
        "value": measured(trial.value),
        "gap": measured(trial.gap),
        "epochs": NOTHING if trial.epochs_done is None else f"{trial.epochs_done}{asked}",
    }
    values = [shown(trial.parameters[name]) if name in trial.parameters else NOTHING for name in differing]
    return [*(cells[header] for header in headers), *(short(value, LONGEST_CELL) for value in values)]


def _print_impact(analysis: Analysis, console: Console) -> None:
    _heading(console, "Impact of each parameter", impact_reading(analysis))
    several = [entry for entry in analysis.impact.parameters if len(entry.levels) > 1]
    if several and analysis.counts.complete < analysis.counts.counted:
        console.print(Text("mean and best are over complete trials, shares over all that count", style="dim"))
    for entry in several:
        console.print()
        _print_parameter(entry, analysis, console)
    single = [entry for entry in analysis.impact.parameters if len(entry.levels) == 1]
    if single:
        values = ", ".join(f"{printable(entry.parameter)} {labels(entry)[0]}" for entry in single)
        console.print()
        console.print(Text(f"tried with one value only: {values}"))


def _print_parameter(entry: ParameterImpact, analysis: Analysis, console: Console) -> None:
    """A parameter's importance and best level in a line, then what each of its levels gave."""
    facts = []
    if entry.importance is not None:
        facts.append(f"importance {entry.importance:.2f}{'' if stands_out(entry) else ' (maybe chance)'}")
    if entry.trials < analysis.counts.counted:
        facts.append(f"active in {entry.trials} of {plural(analysis.counts.counted, 'trial')}")
    best = best_level_reading(entry, analysis)
    facts += [best] if best else []
    name = Text(printable(entry.parameter), style="bold")
    console.print(Text.assemble(name, ": " if facts else "", ", ".join(facts)))
    levels = _most_tried(entry.levels)
    columns, rows = _level_table(entry, levels)
    chosen = best_level(entry, analysis)
    console.print(fitting(console, columns, rows, bold=levels.index(chosen) if chosen in levels else None))
    if len(levels) < len(entry.levels):
        console.print(Text(f"and {plural(len(entry.levels) - len(levels), 'value')} more, tried less often"))


def _most_tried(levels: tuple[Level, ...]) -> list[Level]:
    """At most `MOST_LEVELS` levels, those with the most trials, in their order."""
    ranked = sorted(range(len(levels)), key=lambda place: -levels[place].trials)
    return [levels[place] for place in sorted(ranked[:MOST_LEVELS])]


def _level_table(entry: ParameterImpact, levels: list[Level]) -> tuple[list[Column], list[list[str]]]:
    """Columns and rows; what no trial did has no column."""
    texts = dict(zip(map(id, entry.levels), labels(entry), strict=True))
    found = [
        (Column("", words=True), [short(texts[id(level)], LONGEST_CELL) for level in levels]),
        (Column("trials"), [str(level.trials) for level in levels]),
        (Column("mean"), [measured(level.mean) for level in levels]),
        (Column("best"), [measured(level.best) for level in levels]),
        (Column("complete", dropped=4), [percent(level.share_complete) for level in levels]),
        (Column("pruned", dropped=3), [percent(level.share_pruned) for level in levels]),
        (Column("diverged", dropped=1), [percent(level.share_diverged) for level in levels]),
        (Column("failed", dropped=2), [percent(level.share_failed) for level in levels]),
    ]
    seen = [(column, cells) for column, cells in found if not column.dropped or {*cells} - {"0%"}]
    return [column for column, _ in seen], [list(row) for row in zip(*(cells for _, cells in seen), strict=True)]


def _print_gap(analysis: Analysis, console: Console) -> None:
    if analysis.top.trials and analysis.gap is None and not any(trial.epochs_asked for trial in analysis.top.trials):
        return
    _heading(console, "Gap: final validation loss minus final training loss", gap_reading(analysis))
    gap = analysis.gap
    if gap is None:
        return
    columns = [Column("trials"), Column("mean"), Column("median")]
    columns += [Column(f"> {shown(entry.threshold)}") for entry in gap.above]
    shares = [percent(entry.share) for entry in gap.above]
    row = [str(gap.trials), measured(gap.mean), measured(gap.median), *shares]
    console.print(fitting(console, columns, [row]))
