"""Knobs turned live: a run goes on while its recipe changes under it, on a page or from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuner.live.loop import Live as Live

__all__ = ["Live"]


def __getattr__(name: str) -> object:
    """`Live`, imported when it is asked for: the page's process needs none of it."""
    if name == "Live":
        from tuner.live.loop import Live

        return Live
    raise AttributeError(f"module 'tuner.live' has no attribute '{name}'")
