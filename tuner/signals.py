"""Ctrl-C and SIGTERM, taken at the next safe point."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType, TracebackType
from typing import Any

from tuner.errors import InterruptedRunError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While entered, SIGINT and SIGTERM are held back until `check`; a second one is raised wherever it comes.

    Within `at_once` the first is raised at once too: where nothing can be left half done, as in loading data,
    or where there are no safe points, as in a user's own function.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._at_once = False
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
        if self._at_once or again:
            raise InterruptedRunError(number)

    @contextmanager
    def _mode(self, at_once: bool) -> Iterator[None]:
        before, self._at_once = self._at_once, at_once
        try:
            if at_once:
                self.check()
            yield
        finally:
            self._at_once = before

    def at_once(self) -> AbstractContextManager[None]:
        """A block in which a signal is raised wherever it comes."""
        return self._mode(at_once=True)

    def at_safe_points(self) -> AbstractContextManager[None]:
        """A block in which a signal waits for `check`."""
        return self._mode(at_once=False)

    def check(self) -> None:
        """Raise `InterruptedRunError` if a signal came in."""
        if self.received is not None:
            raise InterruptedRunError(self.received)
