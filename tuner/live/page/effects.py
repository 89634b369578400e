"""Effects: what became of the loss around a change; told while it comes out, and kept."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from tuner.live.watching import Change

WINDOW = 50
"""Steps before and after a change over which the loss is compared."""

Row = tuple[int, dict[str, float]]
"""A step and its values."""


class Effect:
    """The mean of a curve over the steps from `start` to before a change's `step`, and from there to before `end`."""

    def __init__(self, name: str, step: int, start: int, rows: Iterable[Row]) -> None:
        self.name, self.step, self.start, self.end = name, step, start, step + WINDOW
        self._before: list[float] = []
        self._after: list[float] = []
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Take a step's values."""
        step, value = row[0], row[1].get(self.name, math.nan)
        if math.isfinite(value) and self.start <= step < self.end:
            (self._before if step < self.step else self._after).append(value)

    @property
    def text(self) -> str:
        """In words; "" while there is nothing to compare."""
        if not self._before or not self._after:
            return ""
        was, became = (sum(values) / len(values) for values in (self._before, self._after))
        share = f" ({100 * (became - was) / abs(was):+.0f} %)" if was else ""
        return f"{self.name} {was:.3g} → {became:.3g}{share}"


class Effects:
    """The effects of all changes, in their order; a change's steps end where the next one's begin.

    A change of the loss itself is judged by its first term, which means the same before and after it.
    """

    def __init__(self) -> None:
        self._all: list[Effect | None] = []
        self._recent: deque[Row] = deque(maxlen=2 * WINDOW)

    def texts(self) -> list[str]:
        """What became of each change."""
        return ["" if effect is None else effect.text for effect in self._all]

    def add_row(self, row: Row) -> None:
        """Take a step's values."""
        self._recent.append(row)
        for effect in reversed(self._all):
            if effect is not None and effect.end <= row[0]:
                break  # those before it are over too
            if effect is not None:
                effect.add(row)

    def add_change(self, change: Change) -> None:
        """A change was made; its steps' values may still come."""
        if change.name in ("save", "stop"):
            self._all.append(None)
            return
        start = max(0, change.step - WINDOW)
        for effect in self._all:
            if effect is not None and effect.step < change.step:
                effect.end = min(effect.end, change.step)
                start = max(start, effect.step)
        self._all.append(Effect(self._curve(change), change.step, start, self._recent))

    def _curve(self, change: Change) -> str:
        if change.name != "loss" and not change.name.startswith("loss_weights."):
            return "loss"
        known = self._recent[-1][1] if self._recent else {}
        return next((name for name in known if name != "loss"), "")
