"""A timeline as a recipe says it: a file's name, or a mapping with a file or with rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.errors import SearchSpaceError, below, did_you_mean
from tuner.timeline.column import brief
from tuner.timeline.csv_file import read_table
from tuner.timeline.finding import find_csv
from tuner.timeline.steps import length_in
from tuner.timeline.table import Row, Table, build_timeline
from tuner.timeline.timeline import Timeline

_KEYS = ("name", "file", "steps", "keyframes")


def parse_timeline(value: Any, place: str, folders: Sequence[Path] = ()) -> Timeline:
    """The timeline that `value`, which stands at `place`, says.

    A text is a CSV file's name, looked for in each of `folders` in order (in the current one where there are none).
    A mapping has `file` or `keyframes` (rows of the same table, each a mapping of column to cell), and may have
    `steps` (instead of the file's own length; null: never stretched), `name`, and single keys such as
    `learning_rate@500: 0.01`, which replace those of the table or are added to them. Other keys may be null: not given.

    Raises `SearchSpaceError` with place, row and column of the first problem.
    """
    if isinstance(value, str):
        value = {"file": value}
    if not isinstance(value, Mapping):
        raise SearchSpaceError(
            "must be a CSV file's name, or a mapping with file or keyframes", place=place, value=value
        )
    value = {key: entry for key, entry in value.items() if entry is not None or key not in _KEYS or key == "steps"}
    keys = {key: entry for key, entry in value.items() if isinstance(key, str) and "@" in key}
    _check_names([key for key in value if key not in keys], place)
    table = _table(value, place, folders)
    if "steps" in value:
        at = below(place, "steps")
        table = replace(table, length=(None if value["steps"] is None else length_in(value["steps"], at), at))
    timeline = build_timeline(table, _name(value, place))
    try:
        return timeline.with_keys(keys)
    except SearchSpaceError as error:
        raise error.at(place) from None


def _check_names(names: Sequence[Any], place: str) -> None:
    for name in names:
        if name not in _KEYS:
            hint = did_you_mean(name, _KEYS) + " A single key is written PROPERTY@STEP."
            raise SearchSpaceError("there is no such key", place=below(place, brief(name)), hint=hint)


def _name(value: Mapping[str, Any], place: str) -> str:
    name = value.get("name", value.get("file", ""))
    if not isinstance(name, str):
        raise SearchSpaceError("must be text", place=below(place, "name"), value=name)
    return name


def _table(value: Mapping[str, Any], place: str, folders: Sequence[Path]) -> Table:
    """The table of the file, or of the rows, that a mapping names."""
    if ("file" in value) == ("keyframes" in value):
        both = "file" in value
        rule = "a timeline has a file or keyframes, not both" if both else "a timeline needs a file or keyframes"
        raise SearchSpaceError(rule, place=place)
    if "keyframes" in value:
        return _rows(value["keyframes"], below(place, "keyframes"))
    name = value["file"]
    if not isinstance(name, str) or not name.strip():
        raise SearchSpaceError("must be a CSV file's name", place=below(place, "file"), value=name)
    return read_table(find_csv(name, place, folders or [Path()]))


def _rows(value: Any, place: str) -> Table:
    """The table of rows written in YAML; its columns stand in the order in which rows name them first."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise SearchSpaceError("must be a list of rows", place=place, value=value)
    rows: list[Row] = []
    headings: dict[Any, str] = {}
    for index, cells in enumerate(value):
        where = f"{place}[{index}]"
        if not isinstance(cells, Mapping):
            raise SearchSpaceError("a row is a mapping of columns to values", place=where, value=cells)
        row = Row(where, f"keyframes[{index}]", cells)
        rows.append(row)
        headings |= {heading: row.place_of(heading) for heading in cells if heading not in headings}
    return Table(place, list(headings.items()), rows, (None, place))
