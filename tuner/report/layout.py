"""Tables that fit: whole if they can, turned or stacked where the terminal is too narrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Column:
    """A column's header; `words` hold text, on the left, while numbers stand on the right.

    Of columns that may be `dropped` (above 0), the highest go first.
    """

    header: str
    words: bool = False
    dropped: int = 0


def fitting(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]], bold: int | None = None
) -> RenderableType:
    """A table of `rows`, less the columns that must be dropped for it to fit; stacked if that is not enough.

    No cell is ever cut or folded. `bold` is the row to set off.
    """
    for limit in sorted({column.dropped for column in columns}, reverse=True):
        kept = [place for place, column in enumerate(columns) if column.dropped <= limit]
        table = plain_table([columns[place] for place in kept], [[row[place] for place in kept] for row in rows], bold)
        if fits(console, table):
            return table
    return stacked(console, columns, rows, bold)


def fits(console: Console, table: Table) -> bool:
    """Whether a table of unbroken cells is no wider than the console."""
    unbounded = console.options.update(max_width=10_000)
    return console.measure(table, options=unbounded).maximum <= console.width


def plain_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], bold: int | None = None) -> Table:
    """A quiet table whose cells are never folded."""
    table = Table(box=box.SIMPLE, show_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for column in columns:
        justify = "left" if column.words else "right"
        table.add_column(Text(column.header), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for place, row in enumerate(rows):
        table.add_row(*(Text(cell) for cell in row), style="bold" if place == bold else None)
    return table


def stacked(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]], bold: int | None = None
) -> Table:
    """Each row as a paragraph: its first cell, and below it `header cell` pairs, folded between pairs."""
    grid = Table.grid()
    grid.add_column(overflow="fold")
    for place, row in enumerate(rows):
        grid.add_row(Text(f"{columns[0].header} {row[0]}".strip(), style="bold" if place == bold else ""))
        pairs = [f"{column.header} {cell}".strip() for column, cell in zip(columns[1:], row[1:], strict=True)]
        grid.add_row(Padding(folded([pair for pair in pairs if pair], console.width - 2), (0, 0, 0, 2)))
    return grid


def folded(parts: Sequence[str], width: int) -> Text:
    """Parts in a row, a comma between, on lines of `width`; no part is split unless a line is too short."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_len(lines[-1]) + cell_len(part) + 3 <= width:
            lines[-1] += f", {part}"
        else:
            if lines:
                lines[-1] += ","
            lines.append(part)
    return Text("\n".join(lines))
