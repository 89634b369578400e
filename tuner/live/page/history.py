"""History: curves over all steps of a session, thinned as they grow, with nothing high or low forgotten."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

MOST = 400
"""Points that a curve has at most; at as many, two and two become one."""


@dataclass
class _Point:
    """What a curve did over some steps from `first` on: its least, its most, the mean of what was finite."""

    first: int
    low: float
    high: float
    total: float
    count: int

    def take(self, value: float) -> None:
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.total, self.count = self.total + value, self.count + 1

    def ends(self) -> tuple[float, ...]:
        """Least and most, or the one that there is."""
        return (self.low,) if self.low == self.high else (self.low, self.high)

    def joined(self, other: _Point) -> _Point:
        low, high = min(self.low, other.low), max(self.high, other.high)
        return _Point(self.first, low, high, self.total + other.total, self.count + other.count)


@dataclass
class Curve:
    """One value over a session's steps."""

    width: int = 1
    points: list[_Point] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        """Take the value of a step behind all others; one that is not finite leaves a gap."""
        if not math.isfinite(value):
            return
        first = step - step % self.width
        if self.points and self.points[-1].first == first:
            self.points[-1].take(value)
            return
        self.points.append(_Point(first, value, value, value, 1))
        if len(self.points) > MOST:
            self._thin()

    def _thin(self) -> None:
        self.width *= 2
        points: list[_Point] = []
        for point in self.points:
            point.first -= point.first % self.width
            if points and points[-1].first == point.first:
                points[-1] = points[-1].joined(point)
            else:
                points.append(point)
        self.points = points

    def line(self, smoothing: float = 0.0) -> list[list[float]]:
        """[step, mean] of each point; `smoothing` from 0 to below 1 is that of an exponential mean, unbiased."""
        found, mean, weight = [], 0.0, 0.0
        for point in self.points:
            mean = smoothing * mean + (1 - smoothing) * point.total / point.count
            weight = smoothing * weight + (1 - smoothing)
            found.append([point.first, significant(mean / weight)])
        return found

    def envelope(self) -> list[list[float]]:
        """[step, value] from each point's least to its most, so that no spike is lost."""
        return [[point.first, significant(value)] for point in self.points for value in point.ends()]

    def mean(self, start: int, end: int) -> float | None:
        """The mean over about the steps from `start` to before `end`; None where there are none."""
        chosen = [point for point in self._last_points(start) if point.first < end]
        count = sum(point.count for point in chosen)
        return sum(point.total for point in chosen) / count if count else None

    def _last_points(self, start: int) -> Iterator[_Point]:
        for point in reversed(self.points):
            if point.first < start:
                return
            yield point


def significant(value: float) -> float:
    """A number with as many digits as are seen."""
    return float(f"{value:.5g}")


class History:
    """All curves of a session by name."""

    def __init__(self) -> None:
        self.curves: dict[str, Curve] = {}
        self.epochs: dict[str, Curve] = {}
        self.last_step, self.last = -1, dict[str, float]()

    def add(self, step: int, values: dict[str, float]) -> None:
        """Take a step's values."""
        self.last_step, self.last = step, values
        for name, value in values.items():
            self.curves.setdefault(name, Curve()).add(step, value)

    def add_epoch(self, step: int, values: dict[str, float]) -> None:
        """Take the values of an epoch that ended before `step`."""
        for name, value in values.items():
            self.epochs.setdefault(name, Curve()).add(step, value)
