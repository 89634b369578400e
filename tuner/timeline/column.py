"""A column's heading, `name[:space[:interpolation]]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from tuner.errors import SearchSpaceError, did_you_mean
from tuner.timeline.curve import INTERPOLATIONS, SPACES

STEP, PHASE, ACTION = RESERVED = ("STEP", "PHASE", "ACTION")
"""The columns that are no property."""


@dataclass(frozen=True)
class Column:
    """A property's name, and how it is interpolated."""

    name: str
    space: str = "linear"
    interpolation: str = "minjerk"

    @property
    def heading(self) -> str:
        """The shortest heading that says this column."""
        if self.interpolation != "minjerk":
            return f"{self.name}:{self.space}:{self.interpolation}"
        return self.name if self.space == "linear" else f"{self.name}:{self.space}"


def brief(name: object) -> str:
    """A name as it stands in a message: on one line, and no longer than one."""
    text = " ".join(str(name).split())
    return text if len(text) <= 60 else text[:57] + "..."


def parse_column(heading: object, place: str) -> Column:
    """The column that a heading says; `SearchSpaceError` at `place` for one that says none."""
    if not isinstance(heading, str):
        raise SearchSpaceError("a column's name must be text", place=place, value=heading)
    parts = [part.strip() for part in heading.split(":")]
    name = parts[0]
    if not name:
        raise SearchSpaceError("a column needs a name", place=place, hint="Write NAME, NAME:log or NAME:log:step.")
    if name.upper() in RESERVED:
        return _reserved(name, parts, place)
    if len(parts) > 3:
        rule = "a column has at most three parts, name:space:interpolation"
        raise SearchSpaceError(rule, place=place, value=heading)
    for kind, given, valid in zip(("space", "interpolation"), parts[1:], (SPACES, INTERPOLATIONS), strict=False):
        if given not in valid:
            _unknown(kind, given, valid, name, place)
    return Column(*parts)


def _reserved(name: str, parts: list[str], place: str) -> Column:
    """STEP, PHASE or ACTION, written as it must be."""
    if name not in RESERVED:
        raise SearchSpaceError(f"there is no column '{brief(name)}'", place=place, hint=did_you_mean(name, RESERVED))
    if len(parts) > 1:
        raise SearchSpaceError(f"{name} has no space or interpolation", place=place, value=":".join(parts))
    return Column(name)


def _unknown(kind: str, given: str, valid: tuple[str, ...], name: str, place: str) -> NoReturn:
    hint = did_you_mean(given, valid)
    if kind == "space" and given in INTERPOLATIONS:
        hint = f"An interpolation stands third: {brief(name)}:linear:{given}"
    raise SearchSpaceError(f"there is no {kind} '{brief(given)}'", place=place, hint=hint)
