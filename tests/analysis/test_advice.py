"""The rules of advice all together, and the numbers that they give."""

from __future__ import annotations

import pytest

from tuner.analysis.advice import RULES
from tuner.analysis.advice.findings import nice


def test_every_rule_is_tested() -> None:
    """A new rule wants a test in the `test_advice_` file of its own: this list is to grow with it."""
    assert {rule.__name__ for rule in RULES} == {
        "out_of_memory", "diverges", "more_epochs", "never_stepped", "widen", "only_high_rates", "narrow", "coarse",
        "plateau", "overfits", "gentler_pruning", "less_pruning", "fix", "fewer_epochs", "no_effect", "more_trials",
        "failing", "all_the_same",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "up", "expected"),
    [
        (0.0123, None, 0.01), (0.0123, True, 0.02), (0.0123, False, 0.01), (0.01, True, 0.01), (0.01, False, 0.01),
        (9.0, None, 10.0), (-0.0123, True, -0.01), (-0.0123, False, -0.02), (0.0, True, 0.0), (4e-320, None, 5e-320),
    ],
)  # fmt: skip
def test_nice_numbers(value: float, up: bool | None, expected: float) -> None:
    assert nice(value, up) == pytest.approx(expected, rel=0.3 if abs(value) < 1e-300 else 1e-9)
