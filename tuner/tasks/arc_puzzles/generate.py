"""Made puzzles of three families of rules, which a solver has to read off the pairs shown.

`recolour`: some of the puzzle's colours change places. `flip`: left-right, upside down, or both (half a turn).
`shift`: by one or two cells along one axis, what leaves on one side coming back on the other. Each family stays what
it is when a puzzle is turned, mirrored, or its colours are exchanged.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from tuner.seeds import seed_for
from tuner.tasks.arc_puzzles.puzzle import COLORS, Grid, Pair, Puzzle

SMALLEST_SIDE = 6
"""Rows and columns that a made grid has at least."""

FEWEST_COLORS, MOST_COLORS = 5, 8
"""Colours that a made puzzle uses, cells drawn from them alike."""

SHIFTS = (-2, -1, 1, 2)

Rule = Callable[[Grid], Grid]


def make_puzzles(count: int, largest: int, pairs: int, seed: object) -> list[Puzzle]:
    """`count` puzzles with `pairs` pairs shown and one to solve, the families in turn; a function of its arguments.

    Rows and columns are drawn from 6 to `largest` for each puzzle. Each puzzle has a random stream of its own, so
    more of them begin with the same ones.
    """
    return [_puzzle(number, largest, pairs, seed) for number in range(count)]


def _puzzle(number: int, largest: int, pairs: int, seed: object) -> Puzzle:
    rng = np.random.default_rng(seed_for("puzzle", seed, number))
    family = FAMILIES[number % len(FAMILIES)]
    while True:
        rows, columns = rng.integers(SMALLEST_SIDE, largest + 1, size=2)
        palette = rng.permutation(COLORS)[: rng.integers(FEWEST_COLORS, MOST_COLORS + 1)]
        rule = _RULES[family](rng, palette)
        grids = palette[rng.integers(len(palette), size=(pairs + 1, rows, columns))]
        if _can_be_told(rule, grids):
            break
    solved = tuple(Pair(grid, np.ascontiguousarray(rule(grid))) for grid in grids)
    return Puzzle(f"{family}-{number:05d}", solved[:-1], solved[-1:], family)


def _can_be_told(rule: Rule, grids: Grid) -> bool:
    """Whether the pairs shown say enough: the last grid has no colour of its own, and the rule changes every grid."""
    known = bool(np.isin(grids[-1], grids[:-1]).all())
    return known and not any(np.array_equal(rule(grid), grid) for grid in grids)


def _recolour(rng: Generator, palette: Grid) -> Rule:
    """Two or more of the colours in a cycle: each becomes the next."""
    becomes = np.arange(COLORS)
    changed = rng.permutation(palette)[: rng.integers(2, len(palette) + 1)]
    becomes[changed] = np.roll(changed, 1)
    return lambda grid: becomes[grid]


def _flip(rng: Generator, palette: Grid) -> Rule:
    axes = ((0,), (1,), (0, 1))[rng.integers(3)]
    return lambda grid: np.flip(grid, axes)


def _shift(rng: Generator, palette: Grid) -> Rule:
    by, axis = SHIFTS[rng.integers(len(SHIFTS))], int(rng.integers(2))
    return lambda grid: np.roll(grid, by, axis)


_RULES: dict[str, Callable[[Generator, Grid], Rule]] = {"recolour": _recolour, "flip": _flip, "shift": _shift}
FAMILIES = tuple(_RULES)
