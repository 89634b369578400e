"""A table of keyframes, wherever it was written, to a `Timeline`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tuner.errors import SearchSpaceError, did_you_mean
from tuner.timeline.cells import actions_in, is_empty, number_in, plain, text_in
from tuner.timeline.column import ACTION, PHASE, RESERVED, STEP, Column, brief, parse_column
from tuner.timeline.curve import Curve
from tuner.timeline.steps import StepCell, resolve_steps
from tuner.timeline.timeline import Timeline


@dataclass(frozen=True)
class Row:
    """A row: where it stands in full, in short as seen from the same table, and its cells by heading."""

    place: str
    label: str
    cells: Mapping[Any, Any]

    def place_of(self, heading: object) -> str:
        """Where a cell of the row stands."""
        return f"{self.place}, column {brief(heading)}"


@dataclass(frozen=True)
class Table:
    """Headings, each with its place, and rows; `length` is the timeline's in steps, if it says one, and its place."""

    place: str
    headings: Sequence[tuple[Any, str]]
    rows: Sequence[Row]
    length: tuple[int | None, str]


class _Cell(NamedTuple):
    """A cell that is not empty, at its row's step."""

    step: float
    content: Any
    place: str


def build_timeline(table: Table, name: str) -> Timeline:
    """The timeline that a table says; `SearchSpaceError` names row and column of the first problem."""
    rows = [row for row in table.rows if not all(map(is_empty, row.cells.values()))]
    if not rows:
        raise SearchSpaceError("there are no rows", place=table.place)
    columns = _columns(table)
    step_heading = next(heading for heading, column in columns.items() if column.name == STEP)
    steps = resolve_steps(
        [StepCell(row.cells.get(step_heading), row.place_of(step_heading), row.label) for row in rows]
    )
    _check_length(table, rows[-1], steps[-1])
    cells = {column.name: _filled(rows, steps, heading) for heading, column in columns.items()}
    curves = {
        column.name: _curve(column, cells[column.name], place)
        for column, (_, place) in zip(columns.values(), table.headings, strict=True)
        if column.name not in RESERVED
    }
    phases, actions = _phases(cells.get(PHASE, [])), _actions(cells.get(ACTION, []))
    if not (curves or phases or actions):
        raise SearchSpaceError("the rows say nothing: there is no property, phase or action", place=table.place)
    return Timeline(name, table.length[0], curves, phases, actions)


def _columns(table: Table) -> dict[Any, Column]:
    """The columns by heading; each property stands once, and STEP is among them."""
    columns: dict[Any, Column] = {}
    headings: dict[str, Any] = {}
    for heading, place in table.headings:
        column = parse_column(heading, place)
        if column.name in headings:
            rule = f"'{brief(column.name)}' has a column already, {brief(headings[column.name])}"
            raise SearchSpaceError(rule, place=place)
        columns[heading], headings[column.name] = column, heading
    if STEP not in headings:
        near = next((name for name in headings if did_you_mean(name, [STEP]).startswith("Did")), None)
        hint = f"Did you mean it by '{brief(near)}'?" if near else ""
        raise SearchSpaceError(f"there is no column {STEP}", place=table.place, hint=hint)
    return columns


def _check_length(table: Table, last: Row, step: float) -> None:
    length, place = table.length
    if length is not None and step > length:
        rule = f"the timeline ends before its last row: {last.label} is at step {plain(step)}"
        raise SearchSpaceError(rule, place=place, value=length)


def _filled(rows: Sequence[Row], steps: Sequence[float], heading: Any) -> list[_Cell]:
    """The cells of a column that are not empty."""
    cells = ((step, row.cells.get(heading), row.place_of(heading)) for row, step in zip(rows, steps, strict=True))
    return [_Cell(*cell) for cell in cells if not is_empty(cell[1])]


def _curve(column: Column, cells: Sequence[_Cell], place: str) -> Curve:
    if not cells:
        raise SearchSpaceError("a column needs a value in some row", place=place)
    keys = tuple((cell.step, _key(column, cell)) for cell in cells)
    return Curve(column.space, column.interpolation, keys)


def _key(column: Column, cell: _Cell) -> float:
    """The value of a key; a text in a column whose name is nearly PHASE or ACTION was meant for that one."""
    try:
        return number_in(cell.content, cell.place, column.space)
    except SearchSpaceError as error:
        meant = did_you_mean(column.name, (PHASE, ACTION))
        if error.hint or not meant.startswith("Did"):
            raise
        raise SearchSpaceError(error.rule, place=error.place, value=error.value, hint=meant) from None


def _phases(cells: Sequence[_Cell]) -> tuple[tuple[float, str], ...]:
    """Where the phase changes; a name said again is the same phase going on."""
    phases: list[tuple[float, str]] = []
    for cell in cells:
        name = text_in(cell.content, cell.place)
        if not phases or phases[-1][1] != name:
            phases.append((cell.step, name))
    return tuple(phases)


def _actions(cells: Sequence[_Cell]) -> tuple[tuple[float, str], ...]:
    return tuple((cell.step, name) for cell in cells for name in actions_in(cell.content, cell.place))
