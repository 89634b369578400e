"""One section on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tuner.report.layout import Column, fits, fitting, plain_table, stacked
from tuner.report.section import Part, Section


def print_section(section: Section, console: Console) -> None:
    """Print one section."""
    console.print(Text(section.title, style="bold cyan"))
    console.print(Text(section.reading, style="bold" if section.title == "Summary" else ""))
    if any(name for name, _ in section.facts):
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True, style="dim")
        grid.add_column(overflow="fold")
        for name, content in section.facts:
            grid.add_row(name, Text(content))
        console.print(Padding(grid, (1, 0, 0, 0)))
    else:
        for _, content in section.facts:
            console.print(Text(content, style="dim"))
    for place, part in enumerate(section.parts):
        if place or part.title:
            console.print()
        _print_part(part, console)
    if section.notes:
        console.print()
    for note in section.notes:
        console.print(Text(note))


def _print_part(part: Part, console: Console) -> None:
    if part.title:
        head, colon, rest = part.title.partition(":")
        console.print(Text.assemble((head, "bold"), f"{colon}{rest}") if colon else Text(part.title))
    console.print(_turned(part, console) if part.turns else fitting(console, part.columns, part.rows, bold=part.bold))
    for line in part.below:
        console.print(Text(line))


def _turned(part: Part, console: Console) -> Table:
    """The table, with its columns as rows where that takes less room, or stacked."""
    table = plain_table(part.columns, part.rows, bold=part.bold)
    if not fits(console, table):
        lines = [list(line) for line in zip(*part.rows, strict=True)]
        heads = [Column(part.columns[0].header, words=True), *map(Column, lines[0])]
        names = [column.header for column in part.columns[1:]]
        table = plain_table(heads, [[name, *line] for name, line in zip(names, lines[1:], strict=True)])
    return table if fits(console, table) else stacked(console, part.columns, part.rows, bold=part.bold)
