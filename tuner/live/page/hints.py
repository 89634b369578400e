"""Hints: what the curves suggest to turn next."""

from __future__ import annotations

from statistics import median
from typing import Any

from tuner.live.page.history import Curve, History

LEAST_STEPS = 300
PLATEAU = 0.01
"""A loss that fell by less than this share over the last third of the steps since a change is on a plateau."""

SPIKE = 4.0
"""A loss that jumped to so many times what its points usually go up to, within the last third, has spikes."""

NOTHING = 0.01
"""Spikes below this share of what the loss began with are not worth a hint."""


def hint(history: History, state: dict[str, Any], since: int) -> str:
    """One sentence, or "": what might help, going by the loss since the last change at step `since`."""
    if state.get("broken_at", -1) >= 0:
        return "The loss is not finite: go back, and try a lower learning rate, or clipping at 1."
    curve = history.curves.get("loss")
    steps = history.last_step + 1 - since
    if curve is None or steps < LEAST_STEPS:
        return ""
    third = steps // 3
    middle = curve.mean(since + third, since + 2 * third)
    last = curve.mean(since + 2 * third, history.last_step + 1)
    if middle is None or last is None or middle <= 0:
        return ""
    if _has_spikes(curve, since + 2 * third):
        return "The loss has spikes: try a lower learning rate, clipping at 1, or larger batches."
    if last > middle * (1 + PLATEAU):
        return "The loss is rising: try a lower learning rate."
    if last > middle * (1 - PLATEAU):
        other = "Adam" if str(state["values"].get("optimizer", "")).startswith("SGD") else "SGD with momentum"
        return f"The loss is on a plateau: try {other}, or a lower learning rate."
    return ""


def _has_spikes(curve: Curve, start: int) -> bool:
    highs = [point.high for point in curve.points if point.first >= start]
    if not highs:
        return False
    return max(highs) > max(SPIKE * median(highs), NOTHING * curve.points[0].high)
