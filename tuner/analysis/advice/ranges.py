"""Ranges: best at an edge, nothing good in a part, no influence, levels too far apart."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from tuner.analysis.advice.findings import Advice, Change, Findings, brief, nice, written
from tuner.analysis.factors import Factor
from tuner.analysis.significance import compare_levels
from tuner.analysis.trials import is_missing
from tuner.search_space.parameter import is_number

NEAR_EDGE = 0.8
"""A fitted best position (-1 to 1) beyond this is at the range's edge."""

LITTLE = 0.15
"""A parameter that explains no more of the variance than this, with 95 % confidence, has no influence to speak of."""

ENOUGH = 0.25
"""As long as what is found explains less of the variance, too much is unknown to say what has no influence."""

TRIALS_A_PARAMETER = 10
"""Fewer trials than this for each parameter are too few to say what it does not do."""

UNLIKELY = 0.01

WORTH_CUTTING = 0.3
"""A part of a range is worth cutting off from this length on (the whole is 2 long)."""

SHARES = re.compile(r"dropout|fraction|momentum|beta|alpha|rho|dampening|smoothing|probability|ratio|decay_rate")
"""Options that are shares: from 0 to 1."""

SEEDS = re.compile(r"(^|[._])seed$")


def widen(findings: Findings) -> Iterator[Advice]:
    """The fitted optimum lies at an edge of the range that was searched, and trials do not get worse towards it."""
    for name in findings.model.found:
        best = findings.model.effects[name].best
        if best is None or abs(best) < NEAR_EDGE:
            continue
        own, side = findings.factor(name), ("above" if best > 0 else "below")
        if findings.caught(name, side) or not _good_to_the_edge(findings, own, best > 0):
            continue
        advice = _wider(findings, own, best > 0)
        if advice is not None:
            yield advice


def _good_to_the_edge(findings: Findings, own: Factor, high: bool) -> bool:
    """Whether the trials nearest to the edge are not worse than those next to them, and one of the best is near it."""
    assert own.position is not None
    active = np.isfinite(own.position)
    towards = (own.position if high else -own.position)[active]
    scores = findings.scores.to_numpy()[active]
    reached = findings.good[active] & (towards >= 0.5)
    if not reached.any():
        return False
    order = np.argsort(-towards, kind="stable")
    size = max(3, len(order) // 6)
    if own.values is not None:  # whole levels, not parts of one
        last = towards >= towards.max() - 1e-9
        below = towards[~last].max() if (~last).any() else -np.inf
        outer, inner = scores[last], scores[np.abs(towards - below) < 1e-9]
    else:
        outer, inner = scores[order[:size]], scores[order[size : 2 * size]]
    if len(outer) < 2 or len(inner) < 2:
        return len(outer) > 0
    error = math.sqrt(outer.var(ddof=1) / len(outer) + inner.var(ddof=1) / len(inner))
    return bool(outer.mean() - inner.mean() > -1.5 * error)


def _wider(findings: Findings, own: Factor, high: bool) -> Advice | None:
    """The advice; None where the range ends at what the parameter can be."""
    description = findings.description(own.name)
    choices = description.get("choices")
    if isinstance(choices, list):
        change, was, now = _longer(own, choices, high)
    else:
        change, was, now = _moved(own, description, high)
    if now is None or was is None or change is None:
        return None
    edge = "high" if high else "low"
    best, rise = findings.best, findings.model.effects[own.name]
    value = (
        ""
        if best is None or own.name not in best.parameters
        else f" (best trial: {written(best.parameters[own.name])})"
    )
    return Advice(
        "widen",
        own.name,
        f"widen {own.name}: {edge} {written(was)} -> {written(now)}",
        f"the best fitted value is at the {edge} end of its range, and trials there are no worse{value}; "
        f"it explains {rise.share:.0%} of the differences (p {_p(rise.p)})",
        {"edge": edge, "was": was, "now": now, "share": rise.share, "p": rise.p},
        Change(search={own.name: change}),
    )


def _longer(own: Factor, choices: list[Any], high: bool) -> tuple[dict[str, Any] | None, Any, Any]:
    """Choices with another number at one end: as far on as the last two are apart, by ratio or by difference.

    Where the last one has not been tried yet, there is no need to go beyond it.
    """
    numbers = sorted(choice for choice in choices if is_number(choice))
    if len(numbers) < 2:
        return None, None, None
    last, before = (numbers[-1], numbers[-2]) if high else (numbers[0], numbers[1])
    if last not in (own.values or ()):
        return None, last, None
    by_ratio = last > 0 and before > 0
    now = last * last / before if by_ratio else last + (last - before)
    whole = all(isinstance(number, int) for number in numbers)
    now = round(now) if whole else float(f"{now:.3g}")
    low, top = _bounds(own.name, min(numbers), max(numbers))
    if not low <= now <= top or now in choices:
        return None, last, None
    return {"choices": [*choices, now] if high else [now, *choices]}, last, now


def _moved(own: Factor, description: dict[str, Any], high: bool) -> tuple[dict[str, Any] | None, Any, Any]:
    """A range with one end further out: half a decade or a decade, or half of its length."""
    low, top = own.low, own.high
    least, most = _bounds(own.name, low, top)
    step = description.get("step")
    if own.log:
        ratio = 10.0 if top / low >= 1e3 else 10**0.5
        now = nice(top * ratio) if high else nice(low / ratio)
    else:
        length = (top - low) / 2
        now = top + length if high else low - length
        now = _stepped(low, top, step, (least, most), high) if step else brief(now, low, top)
    now = min(now, most) if high else max(now, least)
    if not math.isfinite(now):
        return None, None, None
    whole = isinstance(description.get("low"), int) and isinstance(description.get("high"), int) and not own.log
    whole = whole and description.get("type") != "float"
    now = round(now) if whole or (own.log and description.get("type") == "int") else now
    was = description.get("high" if high else "low", top if high else low)
    if (now <= top) if high else (now >= low):
        return None, was, None
    return {"high" if high else "low": now}, was, now


def _stepped(low: float, top: float, step: float, bounds: tuple[float, float], high: bool) -> float:
    """One end further out by half of the length, by as many whole steps as there is room for."""
    room = (bounds[1] - top if high else low - bounds[0]) / step
    steps = min(math.ceil((top - low) / 2 / step - 1e-9), math.floor(room + 1e-9) if math.isfinite(room) else math.inf)
    return float(f"{top + steps * step if high else low - steps * step:.10g}")


def _bounds(name: str, low: float, high: float) -> tuple[float, float]:
    """What a parameter can be at all, as far as its name and its range tell."""
    last = name.rpartition(".")[2]
    if SHARES.search(last) and low >= 0 and high <= 1:
        return 0.0, 0.999 if re.search("momentum|beta|alpha|rho", last) else 0.9 if "dropout" in last else 1.0
    if low > 0 and high <= 1 and not re.search("rate|decay|weight|lr", last):
        return 0.0, 1.0
    least = 1.0 if low >= 1 else 0.0 if low >= 0 else -math.inf
    return least, math.inf


def narrow(findings: Findings) -> Iterator[Advice]:
    """None of the best quarter of the trials lies in a part of a range, where so many are that this is no chance."""
    for name in findings.model.found:
        own = findings.factor(name)
        if own.position is None:
            yield from _fewer_choices(findings, own)
        elif own.values is None:
            for high in (False, True):
                if not findings.caught(name, "above" if high else "below"):
                    yield from _narrower(findings, own, high)
        else:
            yield from _fewer_choices(findings, own)


def _narrower(findings: Findings, own: Factor, high: bool) -> Iterator[Advice]:
    assert own.position is not None
    active = np.isfinite(own.position)
    towards = (own.position if high else -own.position)[active]
    good = findings.good[active]
    if not good.any():
        return
    furthest = float(towards[good].max())
    empty = int((towards > furthest).sum())
    chance = none_there(len(towards), empty, int(good.sum()))
    margin = 0.1 * (1 - furthest)
    if chance > UNLIKELY or 1 - furthest - margin < WORTH_CUTTING:
        return
    end = furthest + margin
    bound = own.at(end if high else -end)
    description = findings.description(own.name)
    now = _rounded(bound, own, description, high)
    was = description.get("high" if high else "low", own.high if high else own.low)
    if now is None or not (own.low < now < own.high):
        return
    side = "above" if high else "below"
    yield Advice(
        "narrow",
        own.name,
        f"narrow {own.name}: {'high' if high else 'low'} {written(was)} -> {written(now)}",
        f"none of the {empty} trials {side} {written(own.at(furthest if high else -furthest))} "
        f"is among the best quarter (p {_p(chance)})",
        {"edge": "high" if high else "low", "was": was, "now": now, "trials": empty, "p": chance},
        Change(search={own.name: {"high" if high else "low": now}}),
    )


def _rounded(bound: float, own: Factor, description: dict[str, Any], high: bool) -> float | int | None:
    """A bound as one would write it, outward of where it was found."""
    step = description.get("step")
    if step:
        steps = (bound - own.low) / step
        moved = own.low + step * (math.ceil(steps - 1e-9) if high else math.floor(steps + 1e-9))
        return round(moved) if isinstance(step, int) and float(moved).is_integer() else float(f"{moved:.6g}")
    whole = isinstance(description.get("low"), int) and isinstance(description.get("high"), int)
    if whole and description.get("type") != "float":
        return math.ceil(bound) if high else math.floor(bound)
    return nice(bound, up=high) if own.log else brief(bound, own.low, own.high, up=high)


def none_there(trials: int, there: int, good: int) -> float:
    """The chance that of `trials` none of the `good` is among the `there`, if it does not matter where they are."""
    if there == 0 or good == 0:
        return 1.0
    if good > trials - there:
        return 0.0
    ways = math.lgamma(trials - there + 1) - math.lgamma(trials - there - good + 1)  # of C(n - m, k) / C(n, k)
    return math.exp(ways - math.lgamma(trials + 1) + math.lgamma(trials - good + 1))


def _fewer_choices(findings: Findings, own: Factor) -> Iterator[Advice]:
    """Choices none of whose trials is among the best quarter; of trials in which the parameter was active.

    That the parameter matters is sure already, so of k choices k - 2 at most can be as good as the rest: by so many the
    chances are multiplied. Source: J. P. Shaffer, Modified Sequentially Rejective Multiple Test Procedures, J. Am.
    Stat. Assoc. 81 (1986).
    """
    choices = findings.description(own.name).get("choices")
    values = findings.values(own.name)
    active = np.array([not is_missing(value) for value in values], dtype=bool)
    names, good = np.array([repr(value) for value in values])[active], findings.good[active]
    if not isinstance(choices, list) or any(entry.parameter == own.name for entry in findings.stability.levels):
        return
    lost, most, as_good = {}, 1.0, max(1, len(choices) - 2)
    for choice in choices:
        there = names == repr(choice)
        chance = none_there(len(names), int(there.sum()), int(good.sum()))
        if there.any() and not good[there].any() and chance * as_good <= UNLIKELY:
            lost[repr(choice)], most = int(there.sum()), min(most, chance * as_good)
    kept = [choice for choice in choices if repr(choice) not in lost]
    if not lost or not kept:
        return
    change = Change(search={own.name: {"choices": kept}}) if len(kept) > 1 else Change(fixed={own.name: kept[0]})
    dropped = ", ".join(written(choice) for choice in choices if repr(choice) in lost)
    yield Advice(
        "narrow",
        own.name,
        f"drop {dropped} from {own.name}",
        f"none of the {sum(lost.values())} trials with {'it' if len(lost) == 1 else 'them'} "
        f"is among the best quarter (p {_p(most)})",
        {"dropped": [choice for choice in choices if repr(choice) in lost], "trials": sum(lost.values()), "p": most},
        change,
    )


def fix(findings: Findings) -> Iterator[Advice]:
    """A parameter that, with confidence, explains little beside others that matter."""
    model, best = findings.model, findings.best
    if best is None or model.explained < ENOUGH or len(findings.scores) < TRIALS_A_PARAMETER * len(model.factors):
        return
    paired = {name for pair in model.pairs if pair.p <= 0.05 for name in (pair.first, pair.second)}
    for name, effect in model.effects.items():
        own = findings.factor(name)
        idle = any(is_missing(value) for value in findings.values(name))
        caught = findings.tells(name)
        if name in model.found or name in paired or idle or caught or SEEDS.search(name) or effect.most > LITTLE:
            continue
        if name not in best.parameters:
            continue
        value = _plain(best.parameters[name], own)
        yield Advice(
            "fix",
            name,
            f"fix {name} at {written(value)}",
            f"it explains at most {effect.most:.0%} of the differences between trials, with 95% confidence",
            {"most": effect.most, "share": effect.share, "value": value},
            Change(fixed={name: value}),
        )


def _plain(value: Any, own: Factor) -> Any:
    """A value of a range, in short."""
    if not isinstance(value, float) or own.values is not None:
        return value
    short = float(f"{value:.2g}") if own.log else brief(value, own.low, own.high)
    return short if own.low <= short <= own.high else value


def coarse(findings: Findings) -> Iterator[Advice]:
    """Of a few levels of a number, the best is far better than both beside it: the optimum may lie between."""
    for name in findings.model.found:
        own = findings.factor(name)
        if own.position is None or (own.log and own.values is None):
            continue
        levels = np.unique(own.position[np.isfinite(own.position)])
        if not 3 <= len(levels) <= 6:
            continue
        groups = [findings.scores.to_numpy()[np.abs(own.position - level) < 1e-9] for level in levels]
        means = np.array([group.mean() for group in groups])
        best = int(means.argmax())
        if best in (0, len(levels) - 1) or min(map(len, groups)) < 3:
            continue
        beside = [compare_levels([groups[best].tolist(), groups[other].tolist()]).p for other in (best - 1, best + 1)]
        far = [means[best] - means[other] > 0.4 * np.ptp(means) for other in (best - 1, best + 1)]
        if not all(far) or any(p is None or p > UNLIKELY for p in beside):
            continue
        low, middle, high = (own.at(float(levels[place])) for place in (best - 1, best, best + 1))
        between = [_between(low, middle), _between(middle, high)]
        description = findings.description(name)
        whole = all(isinstance(choice, int) for choice in description.get("choices", [description.get("low")]))
        between = [round(entry) if whole else float(f"{entry:.3g}") for entry in between]
        new = [entry for entry in between if entry not in (low, middle, high)]
        if not new:
            continue
        known = description.get("choices")
        choices = sorted({*(known if isinstance(known, list) else [own.at(float(level)) for level in levels]), *new})
        yield Advice(
            "finer",
            name,
            f"try {name} between its values: {', '.join(written(entry) for entry in new)}",
            f"{written(_whole(middle))} is far better than {written(_whole(low))} and {written(_whole(high))} beside "
            "it",
            {"best": middle, "below": low, "above": high, "new": new},
            Change(
                search={
                    name: {
                        "choices": [_whole(entry) for entry in choices],
                        "type": None,
                        "low": None,
                        "high": None,
                        "step": None,
                        "log": None,
                    }
                }
            ),
        )


def _between(low: float, high: float) -> float:
    return math.sqrt(low * high) if low > 0 and high / low >= 3 else (low + high) / 2


def _whole(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number


def _p(chance: float) -> str:
    return "<0.001" if chance < 0.001 else f"{chance:.2g}"
