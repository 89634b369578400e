"""How large a puzzle's answer is: the net does not say, for its loss leaves padding out."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tuner.tasks.arc_puzzles.puzzle import Pair

Size = tuple[int, int]
"""Rows and columns."""


def output_size(shown: Sequence[Pair], test: Size) -> Size:
    """The rows and columns of the answer to a test input of size `test`, by the pairs shown.

    The first that fits: the input's own size if every pair keeps it; the one size that all outputs share; the input's
    size times the ratios that all pairs share, one for rows and one for columns, if that is whole; the last output's
    size.
    """
    sizes = [(pair.input.shape, pair.output.shape) for pair in shown if pair.output is not None]
    if all(before == after for before, after in sizes):
        return test
    rows, columns = sizes[-1][1]
    if all(after == (rows, columns) for _, after in sizes):
        return rows, columns
    ratios = {tuple(Fraction(a, b) for a, b in zip(after, before, strict=True)) for before, after in sizes}
    if len(ratios) == 1:
        scaled = [ratio * side for ratio, side in zip(ratios.pop(), test, strict=True)]
        if all(side.denominator == 1 for side in scaled):
            return int(scaled[0]), int(scaled[1])
    return rows, columns
