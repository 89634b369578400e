"""Pace: how fast a session goes, and what else there is time for."""

from __future__ import annotations

import math
import time

TELL_SECONDS = 0.1
"""What goes on by itself is told no more often than this; what a person has asked for is told at once."""

PREVIEW_SECONDS = 0.03
"""Previews come no more often than this."""

PREVIEW_SHARE = 0.015
"""The most of the time that previews may take."""

SNAPSHOT_SHARE = 0.01
"""The most of the time that checkpoints in memory may take."""

SNAPSHOT_SECONDS = 15.0
"""How old the newest checkpoint in memory gets while nothing is turned."""

TURN_SECONDS = 1.0
"""How old it must be for another to be taken before something is turned."""


class Pace:
    """Counts steps, and shares out the time between them."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.rate = 0.0
        self._window, self._steps, self._told = self.began, 0, -math.inf
        self._preview_end, self._preview_cost = -math.inf, 0.0
        self._snapshot_end, self._snapshot_cost = self.began, 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the session began."""
        return time.perf_counter() - self.began

    def step(self) -> None:
        """Count a step; the rate is that of about the last second."""
        self._steps += 1
        now = time.perf_counter()
        if now - self._window >= 1.0:
            self.rate = self._steps / (now - self._window)
            self._window, self._steps = now, 0

    def rest(self) -> None:
        """Leave what passes until the next step out of the rate."""
        self._window, self._steps = time.perf_counter(), 0

    def may_tell(self) -> bool:
        """Whether it is time to tell what goes on."""
        return time.perf_counter() - self._told >= TELL_SECONDS

    def told(self) -> None:
        """It was told."""
        self._told = time.perf_counter()

    def may_preview(self) -> bool:
        """Whether it is time for another preview, and it keeps within its share."""
        return time.perf_counter() - self._preview_end >= max(PREVIEW_SECONDS, self._preview_cost / PREVIEW_SHARE)

    def previewed(self, started: float) -> None:
        """A preview was begun at `started`, and is over; the first one, which takes longer, says nothing of others."""
        self._preview_cost = 0.0 if self._preview_end < 0 else time.perf_counter() - started
        self._preview_end = time.perf_counter()

    def may_snapshot(self, turning: bool) -> bool:
        """Whether it is time for another checkpoint in memory, and it keeps within its share."""
        age = time.perf_counter() - self._snapshot_end
        return age >= max(TURN_SECONDS if turning else SNAPSHOT_SECONDS, self._snapshot_cost / SNAPSHOT_SHARE)

    def snapshot_taken(self, started: float) -> None:
        """A checkpoint was begun at `started`, and is taken."""
        self._snapshot_end = time.perf_counter()
        self._snapshot_cost = self._snapshot_end - started
