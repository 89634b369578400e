"""Canvas: grids of any size as tensors of one size, and puzzles as samples.

A grid lies in the upper left corner of its canvas of `size` x `size` cells; `PAD` fills the rest, and a whole canvas
where a puzzle shows fewer pairs than the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tuner.tasks.arc_puzzles.generate import FAMILIES
from tuner.tasks.arc_puzzles.puzzle import COLORS, Grid, Pair, Puzzle
from tuner.tasks.base import Samples

PAD = COLORS
CLASSES = COLORS + 1
"""The ten colours and the pad token."""

NO_FAMILY = -1


def on_canvas(grid: Grid | None, size: int) -> Grid:
    """A grid (None: nothing but padding) on a canvas: size x size."""
    canvas = np.full((size, size), PAD, dtype=np.int64)
    if grid is not None:
        canvas[: grid.shape[0], : grid.shape[1]] = grid
    return canvas


def samples_of(puzzles: Sequence[Puzzle], size: int, pairs: int, repeats: int = 1) -> Samples:
    """One sample for each test pair, all of them `repeats` times over.

    Inputs: `context_in` and `context_out` (samples x pairs x size x size) and `test` (samples x size x size). Targets:
    `grid` (samples x size x size) and `family` (samples,), -1 for none. A puzzle that shows more than `pairs` pairs
    shows the next ones at each repetition.
    """
    queries = [(puzzle, query) for puzzle in puzzles for query in puzzle.test]
    rows = [
        (*_context(puzzle.train, size, pairs, turn), on_canvas(query.input, size), on_canvas(query.output, size))
        for turn in range(repeats)
        for puzzle, query in queries
    ]
    context_in, context_out, test, grid = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
    families = [FAMILIES.index(puzzle.family) if puzzle.family else NO_FAMILY for puzzle, _ in queries]
    return Samples(
        inputs={"context_in": context_in, "context_out": context_out, "test": test},
        targets={"grid": grid, "family": torch.tensor(families).repeat(repeats)},
    )


def _context(shown: Sequence[Pair], size: int, pairs: int, turn: int) -> tuple[Grid, Grid]:
    """Inputs and outputs of `pairs` pairs, empty canvases where there are fewer: pairs x size x size each."""
    start = turn * pairs if len(shown) > pairs else 0
    chosen = [shown[(start + i) % len(shown)] for i in range(min(pairs, len(shown)))]
    before: list[Grid | None] = [pair.input for pair in chosen]
    after = [pair.output for pair in chosen]
    missing = [None] * (pairs - len(chosen))
    return _stacked([*before, *missing], size), _stacked([*after, *missing], size)


def _stacked(grids: Sequence[Grid | None], size: int) -> Grid:
    return np.stack([on_canvas(grid, size) for grid in grids])


def is_shown(context_in: Tensor) -> Tensor:
    """Which of the pairs there are: ... x pairs (bool) of ... x pairs x size x size."""
    return context_in[..., 0, 0] != PAD
