"""Ctrl-C and SIGTERM, taken at the next safe point."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from tuner.errors import InterruptedRunError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While entered, SIGINT and SIGTERM are held back until `check`; a second one ends the process as usual.

    With `immediate` set (in a user's code, which has no safe points), the first is raised at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.immediate = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None
        self.received = number
        if self.immediate or again:
            raise InterruptedRunError(number)

    def check(self) -> None:
        """Raise `InterruptedRunError` if a signal came in."""
        if self.received is not None:
            raise InterruptedRunError(self.received)
