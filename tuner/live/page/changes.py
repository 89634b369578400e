"""The list of changes: when, what, and what became of the loss."""

from __future__ import annotations

from typing import Any

from tuner.live.controls import Control
from tuner.live.page.history import History
from tuner.live.page.widgets import shown
from tuner.live.watching import Change

WINDOW = 50
"""Steps before and after a change over which the loss is compared."""

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


def effect(step: int, before: int, after: int, history: History) -> str:
    """The mean loss over some steps before a change and behind it, as far as the changes before and after it allow.

    `before` and `after` are their steps.
    """
    curve = history.curves.get("loss")
    start, end = max(step - WINDOW, before), min(step + WINDOW, after)
    if curve is None or end <= step:
        return ""
    was, became = curve.mean(start, step), curve.mean(step, end)
    if was is None or became is None:
        return ""
    share = f" ({100 * (became - was) / abs(was):+.0f} %)" if was else ""
    return f"loss {was:.3g} → {became:.3g}{share}"


def rows(changes: list[Change], history: History, controls: list[Control]) -> list[dict[str, Any]]:
    """The list, the newest first."""
    labels = {control.name: control.shown for control in controls}
    steps = sorted({change.step for change in changes})
    ends = {
        step: (before, after)
        for before, step, after in zip([0, *steps], steps, [*steps[1:], history.last_step + 1], strict=False)
    }
    return [
        {
            "id": number,
            "step": change.step,
            "time": clock(change.seconds),
            "what": in_words(change, labels),
            "effect": effect(change.step, *ends[change.step], history),
        }
        for number, change in reversed(list(enumerate(changes)))
    ]


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, or hours too."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
