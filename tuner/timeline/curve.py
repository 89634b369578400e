"""Curve: one property's keys over time, and what it is between them."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter

SPACES = ("linear", "log")
"""What is interpolated: the value, or its logarithm."""

INTERPOLATIONS = ("minjerk", "linear", "step")
"""How a value goes from one key to the next; see `Curve`."""

_step_of = itemgetter(0)


@dataclass(frozen=True)
class Curve:
    """A value over time, given by `keys`: (step, value), steps strictly increasing, values above 0 in log space.

    With t in [0, 1] between two keys, `minjerk` moves from the one to the other by 10 t^3 - 15 t^4 + 6 t^5, at rest
    at both (T. Flash, N. Hogan, The coordination of arm movements, J. Neurosci. 5(7), 1985, 1688-1703), `linear` by
    t, and `step` stays until it is there. Before the first key its value holds, after the last key too.
    """

    space: str
    interpolation: str
    keys: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        assert self.space in SPACES and self.interpolation in INTERPOLATIONS and self.keys
        assert all(before < after for (before, _), (after, _) in pairwise(self.keys))
        assert self.space == "linear" or all(value > 0 for _, value in self.keys)

    def at(self, position: float) -> float:
        """The value at a position, in the steps of the keys: at a key exactly its value, between two within theirs."""
        after = bisect_right(self.keys, position, key=_step_of)
        if after == 0:
            return self.keys[0][1]
        start, value = self.keys[after - 1]
        if after == len(self.keys) or position == start or self.interpolation == "step":
            return value
        end, target = self.keys[after]
        share = (position - start) / (end - start)
        if self.interpolation == "minjerk":
            share = minimum_jerk(share)
        if self.space == "log":
            return _within(value, target, math.exp(mix(math.log(value), math.log(target), share)))
        return mix(value, target, share)


def minimum_jerk(time: float) -> float:
    """10 t^3 - 15 t^4 + 6 t^5 for t in [0, 1], the later half from its end, where that is more precise."""
    if time > 0.5:
        return 1.0 - minimum_jerk(1.0 - time)
    return time * time * time * (10.0 + time * (6.0 * time - 15.0))


def mix(start: float, end: float, share: float) -> float:
    """`start` and `end` in the proportion 1 - share to share, never beyond them, however large they are."""
    return _within(start, end, (1.0 - share) * start + share * end)


def _within(start: float, end: float, value: float) -> float:
    """`value`, or the nearer of the two bounds where rounding carried it past them."""
    low, high = (start, end) if start <= end else (end, start)
    return low if value < low else high if value > high else value
