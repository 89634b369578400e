"""Timelines as CSV files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuner.errors import SearchSpaceError
from tuner.timeline.canonical import headings, keyframes
from tuner.timeline.column import RESERVED, brief
from tuner.timeline.finding import near_csv
from tuner.timeline.steps import length_in
from tuner.timeline.table import Row, Table, build_timeline
from tuner.timeline.timeline import Timeline


def read_csv(path: Path) -> Timeline:
    """The timeline of a CSV file, named by its path.

    Raises `SearchSpaceError` with file, row (the line's number) and column of the first problem.
    """
    return build_timeline(read_table(path), str(path))


def read_table(path: Path) -> Table:
    """The table of a CSV file, as text; its length stands in a comment `# steps: 10000`."""
    place = str(path)
    source = _Lines(_text(path), place)
    records = ((line, [cell.strip() for cell in cells]) for line, cells in _records(source))
    filled = [(line, cells) for line, cells in records if any(cells)]
    if not filled:
        raise SearchSpaceError("there are no rows", place=place, hint="The first is STEP,PHASE,ACTION,learning_rate")
    (first, names), *rest = filled
    if len(names) == 1 and re.search(r"[;\t]", names[0]):
        raise SearchSpaceError("columns are separated by commas", place=f"{place}: row {first}", value=names[0])
    return Table(
        place=place,
        headings=[
            (name, f"{place}: row {first}, column {brief(name) or number}") for number, name in enumerate(names, 1)
        ],
        rows=[_row(place, line, names, cells) for line, cells in rest],
        length=_length(source.comments, place),
    )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except IsADirectoryError:
        raise SearchSpaceError("a folder, where a CSV file is needed", place=str(path)) from None
    except FileNotFoundError:
        raise SearchSpaceError("there is no such file", place=str(path), hint=near_csv(path)) from None
    except UnicodeDecodeError:
        raise SearchSpaceError("not a text file in UTF-8", place=str(path), hint="Save it as CSV UTF-8.") from None
    except OSError as error:
        raise SearchSpaceError(f"cannot be read: {error.strerror}", place=str(path)) from None


@dataclass
class _Lines:
    """A text's lines, for a CSV reader to take; comments between two records are set apart.

    A record may span lines, so whoever takes records says when one is over (`between`).
    """

    text: str
    place: str
    comments: list[tuple[int, str]] = field(default_factory=list)
    between: bool = True
    line: int = 0
    record_line: int = 0

    def __iter__(self) -> Iterator[str]:
        for line in io.StringIO(self.text, newline=""):
            self.line += 1
            if self.between and line.lstrip().startswith("#"):
                self.comments.append((self.line, line.strip()))
                continue
            if self.between:
                self.record_line, self.between = self.line, False
            yield line
        if not self.between:
            raise SearchSpaceError("a quote is opened and never closed", place=f"{self.place}: row {self.record_line}")


def _records(source: _Lines) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line it begins at."""
    try:
        for cells in csv.reader(source, skipinitialspace=True):
            source.between = True
            yield source.record_line, cells
    except csv.Error as error:
        raise SearchSpaceError(f"not valid CSV: {error}", place=f"{source.place}: row {source.record_line}") from None


def _row(place: str, line: int, names: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) > len(names):
        rule = f"has {len(cells)} cells, where there are {len(names)} columns"
        raise SearchSpaceError(rule, place=f"{place}: row {line}")
    return Row(f"{place}: row {line}", f"row {line}", dict(zip(names, cells, strict=False)))


def _length(comments: Sequence[tuple[int, str]], place: str) -> tuple[int | None, str]:
    """The length that a comment says, with its place; spreadsheets may have put commas behind it."""
    found = [(line, re.fullmatch(r"#\s*steps\s*:(.*)", text, re.IGNORECASE)) for line, text in comments]
    lengths = [
        (length_in(match[1].strip(", \t"), f"{place}: row {line}"), f"{place}: row {line}")
        for line, match in found
        if match
    ]
    if len(lengths) > 1:
        raise SearchSpaceError("the timeline's length is given twice", place=lengths[1][1], value=lengths[1][0])
    return lengths[0] if lengths else (None, place)


def to_csv(timeline: Timeline) -> str:
    """The timeline as CSV text, every number in full, from which an equal one is read (but for its name)."""
    names = [*RESERVED, *headings(timeline.curves)]
    lines = [] if timeline.steps is None else [f"# steps: {timeline.steps}"]
    lines.append(",".join(map(_cell, names)))
    for row in keyframes(timeline.curves, timeline.phases, timeline.actions):
        lines.append(",".join(_cell(row.get(name)) for name in names))
    return "\n".join(lines) + "\n"


def _cell(content: object) -> str:
    """A cell, quoted where it must be; Python's own writer leaves a lone carriage return unquoted."""
    text = "" if content is None else str(content)
    return '"' + text.replace('"', '""') + '"' if re.search('[",\r\n]', text) else text
