"""What a search space expects, and where the best trial stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tuner.analysis.data import StudyData
from tuner.analysis.measures import better_side
from tuner.analysis.tables import TopTrial
from tuner.analysis.trials import finite

Verdict = Literal["better", "good", "in between", "poor", "unknown"]
"""`better` is beyond what is good, on its better side; `unknown` where a number that decides was not recorded."""

Side = Literal["within", "below", "above", "missing"]


@dataclass(frozen=True)
class Finding:
    """A number of the best trial against one range, bounds included; None is an open end, or a missing number.

    `beats` tells a number that is outside a good range on its better side.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    side: Side
    beats: bool = False


@dataclass(frozen=True)
class Standing:
    """Where a study stands: its best trial against the ranges of `good` and `poor`, in their order.

    `trial` is None, and the verdict unknown, where no trial is complete.
    """

    verdict: Verdict
    trial: int | None
    good: tuple[Finding, ...] = ()
    poor: tuple[Finding, ...] = ()


def study_standing(data: StudyData, best: TopTrial | None) -> Standing | None:
    """Where a study stands by its attribute `expect`; None where it expects nothing.

    Judged by the best trial: the metrics of its best epoch, as far as they are recorded, its `gap`, and its `value`.
    """
    expect = data.records.attributes.get("expect")
    if not isinstance(expect, Mapping) or not (_ranges(expect.get("good")) or _ranges(expect.get("poor"))):
        return None
    if best is None:
        return standing(expect, {}, None, {})
    numbers = {**best_epoch_of(data, best), "gap": best.gap, "value": best.value}
    names = {*_ranges(expect.get("good")), *_ranges(expect.get("poor"))}
    sides = {name: better_side(name, data.metric, data.maximize) for name in names}
    return standing(expect, numbers, best.number, {name: side for name, side in sides.items() if side is not None})


def best_epoch_of(data: StudyData, best: TopTrial) -> dict[str, float | None]:
    """The recorded metrics of the trial's best epoch; empty where it has none."""
    epochs = data.records.metrics([best.number]).get(best.number, {})
    found = {} if best.best_epoch is None else epochs.get(best.best_epoch, {})
    return {name: finite(value) for name, value in found.items()}


def standing(
    expect: Mapping[str, Any], numbers: Mapping[str, float | None], trial: int | None, better: Mapping[str, str]
) -> Standing:
    """Judge `trial` by `numbers`, its recorded values by name.

    `expect` maps `good` and `poor` to ranges (`{val_loss: {low: 0.001, high: 0.01}}`); `better` says of names
    whether they are better `lower` or `higher`, as far as that is known. A trial is poor where any range of `poor`
    holds, also if all of `good` do; good where all of `good` hold; else in between.
    """
    if trial is None:
        return Standing("unknown", None)
    good_ranges, poor_ranges = _ranges(expect.get("good")), _ranges(expect.get("poor"))
    good = [
        _finding(name, numbers.get(name), ends, _better(name, poor_ranges, better))
        for name, ends in good_ranges.items()
    ]
    poor = [_finding(name, numbers.get(name), ends, None) for name, ends in poor_ranges.items()]
    return Standing(_verdict(good, poor), trial, tuple(good), tuple(poor))


def _verdict(good: list[Finding], poor: list[Finding]) -> Verdict:
    if any(entry.side == "within" for entry in poor):
        return "poor"
    reached = [entry.side == "within" or entry.beats for entry in good]
    if good and all(reached):
        return "better" if any(entry.beats for entry in good) else "good"
    failed = any(not held and entry.side != "missing" for held, entry in zip(reached, good, strict=True))
    if any(entry.side == "missing" for entry in poor) or (good and not failed):
        return "unknown"
    return "in between"


def _ranges(given: object) -> dict[str, tuple[float | None, float | None]]:
    if not isinstance(given, Mapping):
        return {}
    ends = {str(name): entry for name, entry in given.items() if isinstance(entry, Mapping)}
    return {name: (finite(entry.get("low")), finite(entry.get("high"))) for name, entry in ends.items()}


def _finding(name: str, value: float | None, ends: tuple[float | None, float | None], better: str | None) -> Finding:
    low, high = ends
    if value is None:
        return Finding(name, None, low, high, "missing")
    if low is not None and value < low:
        return Finding(name, value, low, high, "below", beats=better == "lower")
    if high is not None and value > high:
        return Finding(name, value, low, high, "above", beats=better == "higher")
    return Finding(name, value, low, high, "within")


def _better(name: str, poor: Mapping[str, tuple[float | None, float | None]], known: Mapping[str, str]) -> str | None:
    """Which side of a good range is the better one: away from what is poor, or as its kind has it."""
    low, high = poor.get(name, (None, None))
    if (low is None) != (high is None):
        return "higher" if low is None else "lower"
    return known.get(name)
