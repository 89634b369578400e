"""Top trials: the best few, and every searched parameter that differs among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.report.layout import Column
from tuner.report.section import Part, Section
from tuner.report.sections.summary import parameters
from tuner.report.words import NOTHING, measured, plural, short, short_names, shown

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis, TopTrial

LONGEST_CELL = 28


def top_section(analysis: Analysis) -> Section:
    """The best trials, one a row."""
    top = analysis.top
    reading = top_reading(analysis)
    if not top.trials:
        return Section("Top trials", reading)
    shared = f"in all of them {parameters(top.shared)}" if top.shared and len(top.trials) > 1 else ""
    heads = [Column("trial"), Column("value"), *_extra_columns(top.trials)]
    columns = (*heads, *map(Column, short_names(top.differing)))
    rows = tuple(tuple(_row(trial, heads, top.differing)) for trial in top.trials)
    return Section("Top trials", reading, parts=(Part(columns, rows, title=shared, bold=0, turns=True),))


def top_reading(analysis: Analysis) -> str:
    """How far apart the top trials are, and what they share."""
    trials, complete = analysis.top.trials, analysis.counts.complete
    if not trials:
        return "none is complete with a value"
    if len(trials) == 1:
        return f"trial {trials[0].number}, of {plural(complete, 'complete trial')}"
    first, last = measured(trials[0].value), measured(trials[-1].value)
    spread = f"all have {first}" if first == last else f"from {first} to {last}"
    return f"the best {len(trials)} of {plural(complete, 'complete trial')}: {spread}"


def _extra_columns(trials: tuple[TopTrial, ...]) -> list[Column]:
    """Gap and epochs, where some trial has them."""
    gap = any(trial.gap is not None for trial in trials)
    epochs = any(trial.epochs_done is not None for trial in trials)
    return [*([Column("gap")] if gap else []), *([Column("epochs")] if epochs else [])]


def _row(trial: TopTrial, heads: list[Column], differing: tuple[str, ...]) -> list[str]:
    asked = "" if trial.epochs_asked is None else f"/{trial.epochs_asked}"
    cells = {
        "trial": str(trial.number),
        "value": measured(trial.value),
        "gap": measured(trial.gap),
        "epochs": NOTHING if trial.epochs_done is None else f"{trial.epochs_done}{asked}",
    }
    values = [shown(trial.parameters[name]) if name in trial.parameters else NOTHING for name in differing]
    return [*(cells[column.header] for column in heads), *(short(value, LONGEST_CELL) for value in values)]
