"""Where a study stands against what its search space expects, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tuner.report.words import printable

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Finding, Standing


def standing_reading(standing: Standing) -> str:
    """The verdict and its evidence: `good: val_loss 0.0042 is within 0.001 to 0.01, gap 0.002 is below 0.01`."""
    if standing.trial is None:
        return "cannot tell: no trial is complete with a value"
    good, poor = standing.good, standing.poor
    missing = [entry for entry in (*good, *poor) if entry.side == "missing"]
    if standing.verdict == "poor":
        return f"poor: {_said(entry for entry in poor if entry.side == 'within')}"
    if standing.verdict == "good":
        return f"good: {_said([*good, *missing])}"
    if standing.verdict == "better":
        beyond = [entry for entry in good if entry.beats]
        others = [entry for entry in (*good, *missing) if entry not in beyond]
        rest = f" ({_said(others)})" if others else ""
        return f"better than expected: {_said(beyond)}: check the data for leaks{rest}"
    failed = [entry for entry in good if not entry.beats and entry.side in ("below", "above")]
    if standing.verdict == "in between":
        return f"in between: {_said([*failed, *missing]) if failed else f'not poor: {_said(poor)}'}"
    return f"cannot tell: {_said([*missing, *failed])}"


def _said(findings: Iterable[Finding]) -> str:
    """Each finding once, a comma between."""
    return ", ".join(dict.fromkeys(map(_words, findings)))


def _words(finding: Finding) -> str:
    name, value, low, high = printable(finding.name), finding.value, finding.low, finding.high
    if value is None:
        return f"{name} was not recorded"
    if finding.side == "within" and low is not None and high is not None:
        return f"{name} {_told_apart(value, low, high)} is within {low:.4g} to {high:.4g}"
    bound = high if finding.side == "above" or low is None else low
    if finding.side == "below":
        bound = low
    if bound is None:
        return f"{name} is {value:.4g}"
    side = "at" if value == bound else "below" if value < bound else "above"
    return f"{name} {_told_apart(value, bound)} is {side} {bound:.4g}"


def _told_apart(value: float, *bounds: float) -> str:
    """A number to 4 significant digits, or to as many as tell it from the bounds that it is not equal to."""
    texts = {f"{bound:.4g}" for bound in bounds if bound != value}
    for digits in range(4, 18):
        text = f"{value:.{digits}g}"
        if text not in texts:
            break
    return text
