"""The STEP column: absolute, relative and fractional steps, resolved to steps that increase."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from tuner.errors import SearchSpaceError
from tuner.timeline.cells import NUMBER, as_number, is_empty, plain

LARGEST = 2.0**53
"""Whole numbers above this are not exact as floats."""

_RULE = "must be a whole number from 0, +n, -n, or a fraction such as +0.25"


class StepCell(NamedTuple):
    """A STEP cell, where it stands in full, and its row in short, as seen from the same table."""

    value: object
    place: str
    row: str


class _Step(NamedTuple):
    """An absolute step; or whole steps `after` or `before` one, or a `fraction` of the way between two."""

    kind: str
    number: float


def resolve_steps(cells: Sequence[StepCell]) -> list[float]:
    """The step of each row: whole numbers from 0, or floats between them where a fraction says so.

    Raises `SearchSpaceError` for what is no step, for one without the absolute row it is measured from, and where
    steps do not increase from row to row.
    """
    read = [_parse(cell) for cell in cells]
    above, below = _nearest(read), list(_nearest(read[::-1]))[::-1]
    steps = [_resolve(*around) for around in zip(read, above, below, cells, strict=True)]
    for (before, earlier), (after, later) in pairwise(zip(steps, cells, strict=True)):
        if after <= before:
            rule = f"steps must increase from row to row: {later.row} is at step {plain(after)}"
            raise SearchSpaceError(f"{rule}, {earlier.row} at step {plain(before)}", place=later.place)
    return steps


def length_in(value: object, place: str) -> int:
    """A timeline's length in steps; `SearchSpaceError` for what is not a whole number from 1."""
    number = as_number(value)
    if number is None or not 1 <= number <= LARGEST or not number.is_integer():
        raise SearchSpaceError("a timeline's length is a whole number of steps from 1", place=place, value=value)
    return int(number)


def _parse(cell: StepCell) -> _Step:
    if is_empty(cell.value):
        raise SearchSpaceError("a row needs a step", place=cell.place)
    text = cell.value.strip() if isinstance(cell.value, str) else ""
    if re.fullmatch(r"[-+][0-9]+", text):
        return _Step("after" if text[0] == "+" else "before", _bounded(float(text[1:]), cell))
    if text[:1] in ("+", "-") and NUMBER.fullmatch(text):
        return _Step("fraction", _fraction(float(text), cell))
    number = as_number(cell.value)
    if number is not None and 0 < number < 1:
        hint = f"A fraction has a sign, and quotes in YAML: '+{number:g}'"
        raise SearchSpaceError("must be a whole number", place=cell.place, value=cell.value, hint=hint)
    if number is None or not number >= 0 or not number.is_integer():
        raise SearchSpaceError(_RULE, place=cell.place, value=cell.value)
    return _Step("absolute", _bounded(number, cell))


def _fraction(number: float, cell: StepCell) -> float:
    if -1 < number < 0:
        rule, hint = "a fraction counts from the absolute row above", f"Write +{1 + number:g}"
        raise SearchSpaceError(rule, place=cell.place, value=cell.value, hint=hint)
    if not 0 < number < 1:
        rule = "must be whole steps (+5) or a fraction between 0 and 1 (+0.25)"
        raise SearchSpaceError(rule, place=cell.place, value=cell.value)
    return number


def _bounded(number: float, cell: StepCell) -> float:
    if number > LARGEST:
        raise SearchSpaceError("must be at most 2^53", place=cell.place, value=cell.value)
    return number


def _nearest(read: Iterable[_Step]) -> Iterable[float | None]:
    """The last absolute step so far, for each row."""
    absolute = (step.number if step.kind == "absolute" else None for step in read)
    return accumulate(absolute, lambda last, number: last if number is None else number)


def _resolve(step: _Step, above: float | None, below: float | None, cell: StepCell) -> float:
    """The step of one row, measured from the nearest absolute steps `above` and `below` it."""
    if step.kind == "absolute":
        return step.number
    if above is None and step.kind != "before":
        raise SearchSpaceError("there is no absolute step above this row", place=cell.place, value=cell.value)
    if below is None and step.kind != "after":
        raise SearchSpaceError("there is no absolute step below this row", place=cell.place, value=cell.value)
    if step.kind == "after":
        assert above is not None
        return _bounded(above + step.number, cell)
    assert below is not None
    if step.kind == "fraction":
        assert above is not None
        return above + (below - above) * step.number
    if below < step.number:
        rule = f"lies before step 0: {plain(step.number)} steps before step {plain(below)}"
        raise SearchSpaceError(rule, place=cell.place, value=cell.value)
    return below - step.number
