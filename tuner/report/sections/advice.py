"""Advice: what to do next, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.report.section import Section
from tuner.report.words import plural, printable

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Advice, Analysis


def advice_section(analysis: Analysis) -> Section:
    """A line for each piece of advice, its evidence behind it."""
    lines = tuple(f"{place}. {advice_line(entry)}" for place, entry in enumerate(analysis.advice, 1))
    return Section("Advice", advice_reading(analysis), notes=lines)


def advice_reading(analysis: Analysis) -> str:
    """How much there is to do."""
    if not analysis.counts.trained:
        return "none: no trial has ended"
    if not analysis.advice:
        return "none: nothing stands out that would make the search better"
    change = sum(entry.change is not None for entry in analysis.advice)
    write = f"; `--next FILE` writes the search space that follows from {_of(change, len(analysis.advice))}"
    write = write if change else ""
    return f"{plural(len(analysis.advice), 'thing')} to do next{write}"


def _of(some: int, every: int) -> str:
    """`it`, `one of them`, `3 of them`."""
    return "it" if some == every else "one of them" if some == 1 else f"{some} of them"


def advice_line(entry: Advice) -> str:
    """`widen learning_rate: high 0.1 -> 1.0, since ...`."""
    return printable(f"{entry.do}: {entry.why}" if ":" not in entry.do else f"{entry.do} ({entry.why})")
