"""Stability: where trials diverge, and how noisy their losses are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tuner.report.section import Section
from tuner.report.words import measured, percent, plural, printable, shown

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis, TellingLevel, Threshold


def stability_section(analysis: Analysis) -> Section | None:
    """Diverged trials, spikes, noise and gradient norms; None where nothing of it is known."""
    found = analysis.stability
    if not found.ended or (not found.diverged and not found.noise and found.gradients == (None, None, None)):
        return None
    facts = [("threshold", threshold_reading(entry)) for entry in found.thresholds]
    facts += [("choice", level_reading(entry)) for entry in found.levels]
    facts += [(name, text) for name, text in (("loss", _noise(analysis)), ("gradients", _gradients(analysis))) if text]
    return Section("Stability", stability_reading(analysis), tuple(facts))


def stability_reading(analysis: Analysis) -> str:
    """How many trials diverged, and beyond which value of which parameter."""
    found = analysis.stability
    if not found.diverged:
        return f"none of {plural(found.ended, 'trial')} diverged"
    share = f"{found.diverged} of {plural(found.ended, 'trial')} diverged ({percent(found.diverged / found.ended)})"
    if found.levels and (not found.thresholds or found.levels[0].p < found.thresholds[0].p):
        level = found.levels[0]
        often = "mostly" if level.more else "seldom"
        return f"{share}, {often} with {printable(level.parameter)} {shown(level.value)}"
    if not found.thresholds:
        return f"{share}; no parameter surely tells which"
    first = found.thresholds[0]
    return f"{share}, mostly {first.side} {printable(first.parameter)} {shown(first.value)}"


def threshold_reading(entry: Threshold) -> str:
    """`learning_rate above 0.03: 7 of 8 diverged, 1 of 50 others`."""
    where = f"{printable(entry.parameter)} {entry.side} {shown(entry.value)}"
    return (
        f"{where}: {entry.diverged_beyond} of {entry.beyond} diverged, {entry.diverged_within} of {entry.within} others"
    )


def level_reading(entry: TellingLevel) -> str:
    """`optimizer SGD: 30 of 30 diverged, 0 of 30 others`."""
    with_it = f"{entry.diverged} of {entry.trials} diverged, {entry.diverged_others} of {entry.others} others"
    return f"{printable(entry.parameter)} {shown(entry.value)}: {with_it}"


def _noise(analysis: Analysis) -> str:
    """Spikes and noise of the training loss, step by step."""
    noise = analysis.stability.noise
    if not noise:
        return ""
    best = noise[0]
    spiking = sum(entry.spikes > 0 for entry in noise)
    of_best = f"trial {best.trial}: noise of {_height(best.variance, best.log)} around its trend"
    text = f"{of_best}, {plural(best.spikes, 'spike')}"
    typical = analysis.stability.typical_variance
    of_all = (
        f"{_height(typical or 0.0, best.log)} in the median of {plural(len(noise), 'trial')}, {spiking} with spikes"
    )
    return f"{text}; {of_all}" if len(noise) > 1 else text


def _height(variance: float, log: bool) -> str:
    """A standard deviation; of logarithms in percent, or as a factor."""
    deviation = math.sqrt(variance)
    if not log:
        return measured(deviation)
    return f"{100 * deviation:.2g}%" if deviation < 0.5 else f"a factor of {math.exp(deviation):.2g}"


def _gradients(analysis: Analysis) -> str:
    """Median gradient norms."""
    names = ("the best fifth", "the others", "the diverged")
    known = [
        f"{measured(norm)} in {name}"
        for name, norm in zip(names, analysis.stability.gradients, strict=True)
        if norm is not None
    ]
    return f"median norm {', '.join(known)}" if known else ""
