"""What stands in a cell: a number, a phase's name, actions. Cells of CSV are text, those of YAML plain values."""

from __future__ import annotations

import math
import re

from tuner.errors import SearchSpaceError

NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
"""A number as text."""

_NO_NUMBER = re.compile(r"[-+]?\.?(?:nan|inf|infinity)", re.IGNORECASE)


def is_empty(cell: object) -> bool:
    """Whether nothing stands in a cell."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def number_in(cell: object, place: str, space: str = "linear") -> float:
    """The finite number in a cell, above 0 in log space; `SearchSpaceError` at `place` for anything else."""
    number = as_number(cell)
    if number is None:
        comma = isinstance(cell, str) and as_number(cell.replace(",", ".")) is not None
        hint = "Write a point, not a comma: 0.1" if comma else ""
        raise SearchSpaceError("must be a number", place=place, value=cell, hint=hint)
    if not math.isfinite(number):
        raise SearchSpaceError("must be a finite number", place=place, value=cell)
    if space == "log" and number <= 0:
        raise SearchSpaceError("must be above 0 in log space", place=place, value=plain(number))
    return number


def as_number(cell: object) -> float | None:
    """The number in a cell as a float, infinite where a float cannot hold it; None where there is none."""
    if isinstance(cell, str):
        text = cell.strip()
        if NUMBER.fullmatch(text):
            return float(text)
        return math.nan if _NO_NUMBER.fullmatch(text) else None
    if isinstance(cell, bool) or not isinstance(cell, (int, float)):
        return None
    try:
        return float(cell)
    except OverflowError:
        return math.inf


def plain(number: float) -> int | float:
    """A number as a person writes it: without `.0` where it is whole."""
    return int(number) if number.is_integer() and abs(number) < 1e16 else number


def text_in(cell: object, place: str) -> str:
    """The text in a cell without the spaces around it; a whole number of YAML is text too."""
    if isinstance(cell, bool) or not isinstance(cell, (str, int)):
        raise SearchSpaceError("must be text", place=place, value=cell)
    return str(cell).strip()


def actions_in(cell: object, place: str) -> list[str]:
    """The actions in a cell, separated by `;`."""
    actions = [action.strip() for action in text_in(cell, place).split(";")]
    if not all(actions):
        raise SearchSpaceError("an action needs a name on either side of `;`", place=place, value=cell)
    return actions
