"""Section: a part of a report as plain text and tables, which a terminal and a page draw each in their way."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.report.layout import Column


@dataclass(frozen=True)
class Part:
    """A table, a line above it and lines below; `bold` is the row to set off.

    `turns` says that rows and columns may change places where there is little room.
    """

    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    title: str = ""
    bold: int | None = None
    below: tuple[str, ...] = ()
    turns: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, its reading in words, facts by name, tables, and lines at the end."""

    title: str
    reading: str
    facts: tuple[tuple[str, str], ...] = ()
    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()


def table(columns: list[tuple[Column, list[str]]], **more: object) -> Part:
    """A table of columns; what may be dropped, and says nothing but `0%` or nothing, is left out."""
    seen = [(column, cells) for column, cells in columns if not column.dropped or {*cells} - {"0%", "-", ""}]
    rows = tuple(zip(*(cells for _, cells in seen), strict=True))
    return Part(tuple(column for column, _ in seen), rows, **more)  # type: ignore[arg-type]
