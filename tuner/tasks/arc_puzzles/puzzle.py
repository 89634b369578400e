"""Puzzle: pairs of grids that follow one rule, and how it is read from a JSON file.

The format is that of the Abstraction and Reasoning Corpus: F. Chollet, On the Measure of Intelligence, 2019,
arXiv:1911.01547. A file is `{"train": [{"input": grid, "output": grid}, ...], "test": [...]}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import UsageError, did_you_mean

Grid = NDArray[np.int64]
"""Rows x columns, each entry a colour from 0 to 9."""

COLORS = 10
LARGEST_SIDE = 30
"""Rows and columns that a grid of the corpus has at most."""


@dataclass(frozen=True)
class Pair:
    """A grid and what the puzzle's rule makes of it; `output` is None where it is not known."""

    input: Grid
    output: Grid | None


@dataclass(frozen=True)
class Puzzle:
    """Pairs that show a rule (`train`) and pairs to solve by it (`test`); `family` is a made puzzle's kind of rule."""

    name: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    family: str = ""

    def grids(self) -> Iterator[Grid]:
        """Every grid of the puzzle."""
        for pair in (*self.train, *self.test):
            yield pair.input
            if pair.output is not None:
                yield pair.output

    def largest_side(self) -> int:
        """The most rows or columns that any of its grids has."""
        return max(max(len(grid), len(grid[0])) for grid in self.grids())


def puzzle_files(folder: Path) -> list[Path]:
    """The JSON files in a folder, by name; `UsageError` where there is no such folder, or none in it."""
    if folder.is_file():
        raise UsageError("a file, where a folder of ARC puzzles is needed", place=str(folder))
    if not folder.is_dir():
        raise UsageError("there is no such folder", place=str(folder), hint=_near(folder))
    found = [path for path in sorted(folder.glob("*.json")) if path.is_file() and not path.name.startswith(".")]
    if not found:
        raise UsageError("no ARC puzzle (*.json) in this folder", place=str(folder), hint=_inside(folder))
    return found


def _near(folder: Path) -> str:
    """The folder that was meant, in the first folder on the way that there is."""
    parent, missing = folder.parent, folder
    while not parent.is_dir() and parent != parent.parent:
        parent, missing = parent.parent, parent
    near = did_you_mean(missing.name, [entry.name for entry in parent.iterdir() if entry.is_dir()])
    return near if near.startswith("Did") else ""


def _inside(folder: Path) -> str:
    """The folder below this one that holds puzzles, if there is one."""
    below = next((entry for entry in sorted(folder.iterdir()) if entry.is_dir() and any(entry.glob("*.json"))), None)
    return f"Did you mean '{below}'?" if below else ""


def read_json(path: Path) -> Any:
    """The content of a JSON file; `UsageError` where it cannot be read or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", place=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not JSON: {error}", place=str(path)) from error


def parse_puzzle(content: Any, place: str, outputs_known: bool) -> Puzzle:
    """A puzzle from a file's content; a test pair may lack its output unless `outputs_known`.

    Raises `UsageError` with the path within the file for missing keys, no pairs, and grids that are none.
    """
    if not isinstance(content, Mapping):
        raise UsageError("an ARC puzzle is written {train: [...], test: [...]}", place=place, value=content)
    train = _pairs(content, "train", place, outputs_known=True)
    return Puzzle(Path(place).stem, train, _pairs(content, "test", place, outputs_known))


def _pairs(content: Mapping[str, Any], key: str, place: str, outputs_known: bool) -> tuple[Pair, ...]:
    entries = _entry(content, key, place)
    if not isinstance(entries, list) or not entries:
        raise UsageError("must be a list of at least one pair", place=f"{place}: {key}", value=entries)
    return tuple(_pair(entry, f"{place}: {key}[{i}]", outputs_known) for i, entry in enumerate(entries))


def _pair(entry: Any, place: str, output_known: bool) -> Pair:
    if not isinstance(entry, Mapping):
        raise UsageError("a pair is written {input: grid, output: grid}", place=place, value=entry)
    given = parse_grid(_entry(entry, "input", place), f"{place}.input")
    if "output" not in entry and not output_known:
        return Pair(given, None)
    return Pair(given, parse_grid(_entry(entry, "output", place), f"{place}.output"))


def _entry(content: Mapping[str, Any], key: str, place: str) -> Any:
    if key not in content:
        near = did_you_mean(key, content)
        raise UsageError(f"has no '{key}'", place=place, hint=near if near.startswith("Did") else "")
    return content[key]


def parse_grid(rows: Any, place: str) -> Grid:
    """A grid from a list of rows; `UsageError` for another form, ragged rows, and colours that are not 0 to 9."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        raise UsageError("a grid is a list of rows, a row a list of colours", place=place, value=rows)
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            rule = f"rows must be equally long: row 0 has {len(rows[0])} cells, row {number} {len(row)}"
            raise UsageError(rule, place=place)
        for column, color in enumerate(row):
            if not isinstance(color, int) or isinstance(color, bool) or not 0 <= color < COLORS:
                raise UsageError("a colour is a number from 0 to 9", place=f"{place}[{number}][{column}]", value=color)
    if max(len(rows), len(rows[0])) > LARGEST_SIDE:
        rule = f"a grid has at most {LARGEST_SIDE} rows and columns"
        raise UsageError(rule, place=place, value=shape_of(len(rows), len(rows[0])))
    return np.array(rows, dtype=np.int64)


def shape_of(rows: int, columns: int) -> str:
    """A grid's size as text: `3 x 4`."""
    return f"{rows} x {columns}"
