"""Numbers as plots take them: finite, and no longer than can be seen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tuner.search_space.parameter import is_number

LARGEST = 1e200
"""Beyond this, the difference of two numbers may be none in a browser."""


def drawable(value: Any) -> float | None:
    """A number that can be drawn, or None."""
    if not is_number(value):
        return None
    return float(value) if -LARGEST < value < LARGEST else None  # NaN is neither


def brief(value: Any) -> float | None:
    """The same to 6 significant digits, which is a hundredth of a pixel."""
    number = drawable(value)
    if number is None:
        return None
    short = float(f"{number:.6g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short


def briefs(values: Iterable[Any]) -> list[float | None]:
    """Each of them."""
    return [brief(value) for value in values]


def exponent(value: float) -> float:
    """The place of a positive number on a logarithmic axis."""
    return math.log10(value)
