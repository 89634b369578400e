"""Learning rates, and whatever else makes trials diverge or run out of memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tuner.analysis.advice.findings import Advice, Change, Findings, brief, nice, written
from tuner.analysis.advice.ranges import NEAR_EDGE, UNLIKELY, none_there
from tuner.analysis.divergence import Threshold
from tuner.search_space.parameter import is_number

RATE = "learning_rate"

WARMED = ("WarmupCosine", "OneCycleLR", "LinearLR")
"""Schedulers that begin with a low rate."""

DECADES = 100.0
"""A range of rates this wide, low to high, says that only its highest part works; a narrower one does not."""


def diverges(findings: Findings) -> Iterator[Advice]:
    """Trials diverge beyond some value of a parameter: bound it there, or steady what is beyond."""
    for entry in findings.stability.thresholds[:2]:
        told = (
            f"{entry.diverged_beyond} of {entry.beyond} trials {entry.side} {written(entry.value)} diverged, "
            f"and {entry.diverged_within} of {entry.within} others"
        )
        above = entry.side == "above"
        best = None if findings.best is None else findings.best.parameters.get(entry.parameter)
        known = _best_number(findings, entry.parameter)
        inside = known is None or (known <= entry.value if above else known >= entry.value)
        steady = _steadier(findings) if entry.parameter == RATE and above else ""
        if inside:
            yield _bound(
                findings, entry, f"lower {entry.parameter}" if above else f"raise {entry.parameter}", told, steady
            )
        else:
            why = f"{told}, yet the best trial has {written(best)}"
            clip = findings.of_recipe("gradient_clip") is None and "gradient_clip" not in findings.data.columns
            change = Change(recipe={"gradient_clip": 1.0}) if clip else None
            do = steady or _steadier(findings) or "confirm the best trial over fresh seeds: tuner confirm"
            yield Advice("steady", entry.parameter, do, why, vars(entry), change)

    for name in dict.fromkeys(entry.parameter for entry in findings.stability.levels):
        yield from _left_out(findings, name)


def _left_out(findings: Findings, name: str) -> Iterator[Advice]:
    """Choices with which most trials diverge are left out, unless the best trial has one of them."""
    bad = [e for e in findings.stability.levels if e.parameter == name and e.more and 2 * e.diverged >= e.trials]
    choices = findings.description(name).get("choices")
    left = {repr(entry.value) for entry in bad}
    if not bad or not isinstance(choices, list) or (kept := [c for c in choices if repr(c) not in left]) == []:
        return
    if findings.best is not None and repr(findings.best.parameters.get(name)) in left:
        return
    told = "; ".join(
        f"{e.diverged} of {e.trials} trials with {written(e.value)} diverged, {e.diverged_others} of {e.others} others"
        for e in bad
    )
    change = Change(search={name: {"choices": kept}}) if len(kept) > 1 else Change(fixed={name: kept[0]})
    dropped = ", ".join(written(entry.value) for entry in bad)
    yield Advice("bound", name, f"leave out {dropped} of {name}", told, vars(bad[0]), change)


def _bound(findings: Findings, entry: Threshold, do: str, told: str, also: str = "") -> Advice:
    """The bound of a range moved to a threshold; of choices, those beyond left out."""
    description = findings.description(entry.parameter)
    choices, above = description.get("choices"), entry.side == "above"
    if isinstance(choices, list):
        kept = [choice for choice in choices if not is_number(choice) or (choice < entry.value) == above]
        now: Any = kept
        key = "choices"
        said = f"{do}: leave out {', '.join(written(choice) for choice in choices if choice not in kept)}"
    else:
        whole = isinstance(description.get("low"), int) and isinstance(description.get("high"), int)
        low, high = (description.get(key, entry.value) for key in ("low", "high"))
        bound = _within(entry, _best_number(findings, entry.parameter), low, high, bool(description.get("log")))
        now = (math.floor(bound) if above else math.ceil(bound)) if whole else bound
        key = "high" if above else "low"
        said = f"{do}'s bound: {key} {written(description.get(key, ''))} -> {written(now)}"
    said = f"{said}; or {also}" if also else said
    change = Change(search={entry.parameter: {key: now}}) if now not in (None, []) else None
    return Advice("bound", entry.parameter, said, told, vars(entry), change)


def _best_number(findings: Findings, name: str) -> float | None:
    """The number that the best trial has of a parameter."""
    best = None if findings.best is None else findings.best.parameters.get(name)
    return float(best) if best is not None and is_number(best) else None


def _within(entry: Threshold, best: float | None, low: float, high: float, log: bool) -> float:
    """A threshold in short: never beyond it, nor so far within that the best trial would be left out."""
    above = entry.side == "above"
    short = nice(entry.value, up=not above) if log else brief(entry.value, low, high, up=not above)
    for bound in (short, _three_digits(entry.value, up=not above)):
        keeps = best is None or not (best <= entry.value if above else best >= entry.value)
        if low < bound < high and (keeps or (bound >= best if above else bound <= best)):  # type: ignore[operator]
            return bound
    return entry.value


def _three_digits(value: float, up: bool) -> float:
    """A number of three digits, up or down to it."""
    if value == 0 or not math.isfinite(value):
        return value
    size = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    return float(f"{(math.ceil if up else math.floor)(value / size) * size:.3g}")


def _steadier(findings: Findings) -> str:
    """What lets higher rates train, as far as it is not done yet."""
    means = []
    scheduler = findings.of_recipe("scheduler")
    if scheduler not in WARMED and "scheduler" not in findings.data.columns:
        means.append("warm up (scheduler: WarmupCosine)")
    if findings.of_recipe("gradient_clip") is None and "gradient_clip" not in findings.data.columns:
        means.append("clip gradients (gradient_clip: 1.0)")
    if "optimizer_kwargs.weight_decay" not in findings.data.columns:
        means.append("add weight decay")
    return ", ".join(means)


def out_of_memory(findings: Findings) -> Iterator[Advice]:
    """Trials run out of memory beyond some value of a parameter."""
    for entry in findings.memory[:1]:
        told = (
            f"{entry.diverged_beyond} of {entry.beyond} trials {entry.side} {written(entry.value)} ran out of memory, "
            f"and {entry.diverged_within} of {entry.within} others"
        )
        advice = _bound(findings, entry, f"{'lower' if entry.side == 'above' else 'raise'} {entry.parameter}", told)
        evidence = {key.replace("diverged", "out_of_memory"): value for key, value in advice.evidence.items()}
        yield replace(advice, evidence=evidence)


def only_high_rates(findings: Findings) -> Iterator[Advice]:
    """All good trials have the highest rates of a wide range: so the gradients are small, as they are of data that are
    not scaled."""
    effect = findings.model.effects.get(RATE)
    if RATE not in findings.model.found or effect is None or effect.best is None or effect.best < NEAR_EDGE:
        return
    own = findings.factor(RATE)
    assert own.position is not None
    active = np.isfinite(own.position)
    good = own.position[findings.good & active]
    if not own.log or own.high / own.low < DECADES or not len(good) or good.min() < 0.4:
        return
    lower = int((own.position[active] < good.min()).sum())
    if none_there(int(active.sum()), lower, len(good)) > UNLIKELY:
        return
    least = own.at(float(good.min()))
    yield Advice(
        "check_data",
        RATE,
        "check the data: inputs scaled to about 1, the loss averaged over the batch",
        f"only the highest rates work: all of the best quarter have {written(least)} or more, of {written(own.low)} to "
        f"{written(own.high)}",
        {"least": least, "low": own.low, "high": own.high},
    )
