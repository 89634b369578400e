"""The list of changes: when, what, and what became of the loss."""

from __future__ import annotations

from typing import Any

from tuner.live.controls import Control
from tuner.live.page.widgets import shown
from tuner.live.watching import Change

WORDS = {"reset": "reset: fresh weights, optimizer and counters", "save": "checkpoint saved", "stop": "stopped"}


def in_words(change: Change, labels: dict[str, str]) -> str:
    """A change as a person says it."""
    if change.after is None:
        return WORDS.get(change.name, change.name.replace("restore=", "back to the checkpoint of step "))
    name = labels.get(change.name, change.name)
    before = "" if change.before is None else f"{shown(change.before)} → "
    return f"{'undone: ' if change.undoes else ''}{name} {before}{shown(change.after)}"


def brief(change: Change, labels: dict[str, str]) -> str:
    """The same for a mark in a plot."""
    if change.after is None:
        return change.name.partition("=")[0]
    return f"{labels.get(change.name, change.name)} {shown(change.after)}"


def rows(changes: list[Change], effects: list[str], controls: list[Control]) -> list[dict[str, Any]]:
    """The list, the newest first."""
    labels = {control.name: control.shown for control in controls}
    return [
        {
            "id": number,
            "step": change.step,
            "time": clock(change.seconds),
            "what": in_words(change, labels),
            "effect": effect,
        }
        for number, (change, effect) in reversed(list(enumerate(zip(changes, effects, strict=True))))
    ]


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, or hours too."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
