"""A folder of puzzles: read, sifted by size, and split into those to train and those to validate on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuner.errors import UsageError
from tuner.seeds import seed_for
from tuner.tasks.arc_puzzles.puzzle import Puzzle, parse_puzzle, puzzle_files, read_json

VALIDATION_SHARE = 0.2
"""The share of a folder's puzzles to validate on."""


def read_folder(folder: Path) -> list[Puzzle]:
    """The puzzles of a folder, by name; of files that show the same pairs only the first.

    Raises `UsageError` where there is no such folder or no puzzle in it, and for the first file that is none.
    """
    unique: dict[str, Puzzle] = {}
    for path in puzzle_files(folder):
        content = read_json(path)
        puzzle = parse_puzzle(content, str(path), outputs_known=True)
        unique.setdefault(repr(content["train"]), puzzle)
    return list(unique.values())


def fitting(puzzles: Sequence[Puzzle], size: int, place: str) -> list[Puzzle]:
    """The puzzles whose grids all fit a canvas; `UsageError` where they are too few to train and validate on."""
    found = [puzzle for puzzle in puzzles if puzzle.largest_side() <= size]
    if len(found) < 2:
        sides = sorted(puzzle.largest_side() for puzzle in puzzles)
        rule = f"{len(found)} of {len(puzzles)} puzzles have grids of at most {size} x {size}; at least 2 are needed"
        hint = f"With the data option `size` at {sides[1]} there are 2." if len(sides) > 1 else ""
        raise UsageError(rule, place=place, hint=hint)
    return found


def split(puzzles: Sequence[Puzzle]) -> tuple[list[Puzzle], list[Puzzle]]:
    """Puzzles to train on, and a fifth, at least one, to validate on: by the puzzles' names, whatever their order."""
    ranked = sorted(puzzles, key=lambda puzzle: seed_for("split", puzzle.name))
    held_out = max(1, round(VALIDATION_SHARE * len(ranked)))
    return ranked[held_out:], ranked[:held_out]
