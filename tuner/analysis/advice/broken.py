"""Trials that fail, and values that never change."""

from __future__ import annotations

from collections.abc import Iterator

from tuner.analysis.advice.findings import Advice, Findings, written
from tuner.analysis.tables import count_trials
from tuner.analysis.trials import cells, differ

FEWEST_ALIKE = 5
"""Complete trials of one value that are no chance."""


def failing(findings: Findings) -> Iterator[Advice]:
    """At least half of the trials fail, of whatever: not of memory, of which `out_of_memory` tells."""
    counts = count_trials(findings.data)
    if not counts.failed or 2 * counts.failed < counts.trained or findings.memory:
        return
    first = max((entry for entry in counts.reasons if entry.state == "failed"), key=lambda entry: entry.trials)
    yield Advice(
        "failing",
        None,
        "mend what makes trials fail",
        f"{counts.failed} of {counts.trained} trials failed, {first.trials} of them with: {first.text}",
        {"failed": counts.failed, "trials": counts.trained, "reason": first.text},
    )


def all_the_same(findings: Findings) -> Iterator[Advice]:
    """All complete trials have one value, though their settings differ."""
    complete = findings.data.complete
    differing = any(differ(cells(complete, column)) for column in findings.data.columns.values())
    if len(complete) < FEWEST_ALIKE or complete["value"].nunique() > 1 or not differing:
        return
    value = float(complete["value"].iloc[0])
    yield Advice(
        "same_value",
        None,
        "check what is measured, and that the searched values reach the training",
        f"all {len(complete)} complete trials have the value {written(value)}, whatever their settings",
        {"trials": len(complete), "value": value},
    )
