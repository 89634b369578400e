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


def effect(change: Change, following: int | None, history: History) -> str:
    """The mean loss over some steps before a change, and after it until the next one (at step `following`)."""
    curve = history.curves.get("loss")
    end = min(change.step + WINDOW, history.last_step + 1 if following is None else following)
    if curve is None or end <= change.step:
        return ""
    before, after = curve.mean(change.step - WINDOW, change.step), curve.mean(change.step, end)
    if before is None or after is None:
        return ""
    share = f" ({100 * (after - before) / abs(before):+.0f} %)" if before else ""
    return f"loss {before:.3g} → {after:.3g}{share}"


def rows(changes: list[Change], history: History, controls: list[Control]) -> list[dict[str, Any]]:
    """The list, the newest first."""
    labels = {control.name: control.shown for control in controls}
    found = []
    following: int | None = None
    last = None if not changes else changes[-1].step
    for number in range(len(changes) - 1, -1, -1):
        change = changes[number]
        if change.step != last:
            following, last = last, change.step
        found.append(
            {
                "id": number,
                "step": change.step,
                "time": clock(change.seconds),
                "what": in_words(change, labels),
                "effect": effect(change, following, history),
            }
        )
    return found


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, or hours too."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
