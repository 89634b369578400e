"""Interactions: pairs of parameters whose effects depend on one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.report.layout import Column
from tuner.report.section import Part, Section
from tuner.report.words import NOTHING, level_labels, measured, percent, plural, printable, short

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis, Interaction, Level

LONGEST_LABEL = 24


def interactions_section(analysis: Analysis) -> Section | None:
    """The pairs that are sure as tables of means, else the strongest by name; None with fewer than two parameters."""
    if len([entry for entry in analysis.impact.parameters if len(entry.levels) > 1]) < 2:
        return None
    sure = [pair for pair in analysis.interactions.pairs if pair.sure]
    return Section("Interactions", interactions_reading(analysis), parts=tuple(_part(pair, analysis) for pair in sure))


def interactions_reading(analysis: Analysis) -> str:
    """Which pairs act together, or that none can be told."""
    found = analysis.interactions
    if not found.pairs:
        return "not enough trials to tell"
    sure = [pair for pair in found.pairs if pair.sure]
    if not sure:
        pair = found.pairs[0]
        return (
            f"none of {plural(found.tested, 'pair')} can be told from chance; "
            f"the strongest is {_named(pair)} ({percent(pair.share)} of the differences, p {pair.p:.2g})"
        )
    said = ", ".join(f"{_named(pair)} ({percent(pair.share)} of the differences)" for pair in sure)
    return f"act together: {said}"


def _named(pair: Interaction) -> str:
    return f"{printable(pair.first)} x {printable(pair.second)}"


def _part(pair: Interaction, analysis: Analysis) -> Part:
    """Mean values at each pair of levels, with the number of complete trials."""
    logs = {entry.parameter: entry.log for entry in analysis.impact.parameters}
    heads = _labels(pair.columns, logs.get(pair.second, False))
    names = _labels(pair.rows, logs.get(pair.first, False))
    rows = tuple(
        (name, *(NOTHING if cell.mean is None else f"{measured(cell.mean)} ({cell.trials})" for cell in line))
        for name, line in zip(names, pair.cells, strict=True)
    )
    columns = (Column(short(printable(pair.first), LONGEST_LABEL), words=True), *map(Column, heads))
    return Part(columns, rows, title=f"{_named(pair)}: mean value (complete trials), {printable(pair.second)} across")


def _labels(levels: tuple[Level, ...], log: bool) -> list[str]:
    found = level_labels([(level.value, level.low, level.high) for level in levels], log)
    return [short(label, LONGEST_LABEL) for label in found]
