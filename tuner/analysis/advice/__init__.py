"""What to do next, computed: each piece of advice quotes its evidence, and may say how the search space changes.

A rule is a function from `Findings` to advice. What rests on chance is tested first: see `effects.SURE`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tuner.analysis.advice.broken import all_the_same, failing
from tuner.analysis.advice.curves import fewer_epochs, more_epochs, never_stepped, plateau
from tuner.analysis.advice.findings import Advice, Change, Findings
from tuner.analysis.advice.fitting import gentler_pruning, less_pruning, more_trials, no_effect, overfits
from tuner.analysis.advice.ranges import coarse, fix, narrow, widen
from tuner.analysis.advice.rates import diverges, only_high_rates, out_of_memory

__all__ = ["RULES", "Advice", "Change", "Findings", "advise"]

Rule = Callable[[Findings], Iterable[Advice]]

RULES: tuple[Rule, ...] = (
    failing,
    all_the_same,
    out_of_memory,
    diverges,
    more_epochs,
    never_stepped,
    widen,
    only_high_rates,
    narrow,
    coarse,
    plateau,
    overfits,
    gentler_pruning,
    less_pruning,
    fix,
    fewer_epochs,
    no_effect,
    more_trials,
)
"""In the order in which advice is given: what cost most trials first."""


def advise(findings: Findings) -> tuple[Advice, ...]:
    """All advice, in the order of `RULES`; it changes nothing where the study has no search space that could change."""
    found = tuple(advice for rule in RULES for advice in rule(findings))
    return found if findings.data.search else tuple(replace(advice, change=None) for advice in found)
