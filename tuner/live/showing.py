"""Showing: curves' points and previews on their way from the training to whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from tuner.live.pace import Pace
from tuner.live.watching import Watcher

Rows = list[tuple[int, dict[str, float]]]
"""Steps and their values."""


class Showing:
    """Keeps the values of steps until they are told, so that a device is waited for no more often; makes previews."""

    def __init__(self, watcher: Watcher, pace: Pace, preview: Callable[[], list[Any]] | None) -> None:
        self._watcher, self._pace, self._preview = watcher, pace, preview
        self._rows: list[tuple[int, Mapping[str, Any]]] = []

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Keep the values of a step: floats, or scalar tensors of any device."""
        self._rows.append((step, values))

    def tell_rows(self) -> Rows:
        """Tell the steps since the last time, and give them."""
        self._pace.told()
        rows = [(step, {name: float(value) for name, value in values.items()}) for step, values in self._rows]
        self._rows.clear()
        if rows:
            self._watcher.tell("rows", rows=rows)
        return rows

    def show_preview(self, step: int) -> None:
        """Show pictures of how all is after so many steps; after one that fails there are no more."""
        if self._preview is None:
            return
        started = time.perf_counter()
        try:
            pictures = self._preview()
        except Exception as error:  # a picture is not worth a run
            self._preview = None
            text = f"there are no more previews: {type(error).__name__}: {error}"
            self._watcher.tell("note", text=text, level="warning")
            return
        if pictures:
            self._watcher.show("frame", pictures=pictures, step=step)
        self._pace.previewed(started)
