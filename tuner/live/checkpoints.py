"""Checkpoints in memory: taken now and then, good once a loss that their own weights gave is."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from tuner.live.pace import Pace
from tuner.live.watching import Watcher
from tuner.training.turned import Turned

KEPT = 3
"""Checkpoints in memory, the last good one aside."""


class Checkpoints:
    """Snapshots of `body`; `broken_at` is the step of the loss that is not finite, -1 while there is none."""

    def __init__(self, body: Turned, pace: Pace, watcher: Watcher) -> None:
        self.broken_at = -1
        self._body, self._pace, self._watcher = body, pace, watcher
        self._good, self._rows_from, self._from = -1, 0, 0

    @property
    def good(self) -> int:
        """The step of the last good one; -1 where there is none."""
        return self._good if self._good in self._body.snapshots else -1

    def take(self, turning: bool) -> None:
        """Keep how all stands, unless something was turned at this step already, or the loss is broken."""
        body = self._body
        step = body.steps_done
        if step == 0 or self.broken_at >= 0 or body.turns.last_step() >= step or not self._pace.may_snapshot(turning):
            return
        started = time.perf_counter()
        try:
            body.take_snapshot()
        except (MemoryError, RuntimeError) as error:  # one that is missing is not worth a run
            text = f"no checkpoint could be taken: {type(error).__name__}: {error}"
            self._watcher.tell("note", text=text, level="warning")
        self._pace.snapshot_taken(started)
        for old in sorted(body.snapshots)[:-KEPT]:
            if old != self._good and old not in body.wanted:
                del body.snapshots[old]

    def judge(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> bool:
        """Look at the losses of steps; gives whether one is not finite, and breaks a run which was whole.

        Where no checkpoint's own weights gave a finite loss, one whose numbers are finite will do.
        """
        if self.broken_at >= 0:
            return False
        losses = [(step, values.get("loss", 0.0)) for step, values in rows if step >= self._rows_from]
        broken = next((step for step, loss in losses if not math.isfinite(loss)), None)
        last = max((step for step, _ in losses if broken is None or step < broken), default=-1)
        self._good = max((step for step in self._mine() if step <= last), default=self.good)
        if broken is None:
            return False
        if self.good < 0:
            self._good = max((step for step in self._mine() if self._body.is_sound(step)), default=-1)
        self.broken_at = broken
        return True

    def _mine(self) -> list[int]:
        return [step for step in self._body.snapshots if step >= self._from]

    def mended(self) -> None:
        """Forget that the loss was broken."""
        self.broken_at = -1

    def begun_anew(self) -> None:
        """The run begins anew before the next step; what was before is another run's."""
        self._rows_from, self._from = self._body.steps_done, self._body.steps_done + 1
        self._good = self.broken_at = -1

    def gone_back(self, step: int) -> None:
        """The run is at `step` again; what came later was another run's."""
        for later in [found for found in self._body.snapshots if found > step]:
            del self._body.snapshots[later]
        self._good, self._rows_from, self.broken_at = step, self._body.steps_done, -1
