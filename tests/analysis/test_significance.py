"""Intervals and tests against scipy called for itself, adjustments by hand."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tuner.analysis.significance import (
    ALL_SAME,
    NOT_ENOUGH,
    compare_levels,
    compare_pairs,
    hedges_g,
    holm,
    level_mean,
)

LEVELS = [[1.0, 2.5, 2.0, 4.0], [5.0, 3.5, 6.0, 9.0, 7.5], [2.0, 2.2, 1.0]]
sample = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=0, max_size=8)


def test_the_interval_is_students() -> None:
    """Four values with mean 2.5 and s = 1.29099: t(0.975, 3) = 3.18245, so +- 2.05426."""
    found = level_mean([1.0, 2.0, 3.0, 4.0])
    assert (found.trials, found.mean) == (4, 2.5)
    assert (found.low, found.high) == pytest.approx((2.5 - 2.05426, 2.5 + 2.05426), abs=1e-5)
    values = LEVELS[1]
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    found = level_mean(values)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert level_mean([3.0]).low is None
    assert level_mean([]).mean is None


def test_pairs_are_tested_by_their_differences() -> None:
    first, second = LEVELS[0], LEVELS[1][:4]
    found = compare_pairs(list(zip(first, second, strict=True)))
    expected = stats.ttest_rel(first, second)
    low, high = expected.confidence_interval(0.95)
    assert found.test == "paired t"
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.difference == pytest.approx(np.mean(first) - np.mean(second))


def test_two_levels_are_tested_as_welch_did() -> None:
    found = compare_levels(LEVELS[:2])
    expected = stats.ttest_ind(LEVELS[0], LEVELS[1], equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert (found.test, found.p) == ("Welch's t", pytest.approx(expected.pvalue))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.difference == pytest.approx(statistics.fmean(LEVELS[0]) - statistics.fmean(LEVELS[1]))
    assert found.hedges_g == hedges_g(LEVELS[0], LEVELS[1])


def test_more_levels_are_tested_as_alexander_and_govern_did() -> None:
    found = compare_levels(LEVELS)
    assert (found.test, found.p) == ("Alexander-Govern", pytest.approx(stats.alexandergovern(*LEVELS).pvalue))
    assert found.difference is None
    left_out = compare_levels([*LEVELS, [1.0, 2.0]])
    assert left_out.p == found.p
    two_left = compare_levels([LEVELS[0], [1.0], LEVELS[1]])
    assert (two_left.test, two_left.p) == ("Welch's t", compare_levels(LEVELS[:2]).p)
    assert two_left.difference is None


def test_equal_means_of_three_levels_differ_in_nothing() -> None:
    assert compare_levels([[0.0, 1.0, 2.0], [1.0, 1.5, 0.5], [0.0, 1.0, 2.0]]).p == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        ([[1.0, 2.0], [1.0, 2.0, 3.0]], NOT_ENOUGH),
        ([[1.0] * 5, [1.0] * 4], ALL_SAME),
        ([[1.0] * 5, [2.0] * 4], "no level has any spread"),
        ([[1.0] * 5, [2.0] * 4, [1.0, 2.0, 3.0]], "a level has no spread"),
        ([[0.1 + 0.2] * 3, [0.3] * 3], ALL_SAME),
    ],
)
def test_what_cannot_be_tested_says_why(levels: list[list[float]], reason: str) -> None:
    found = compare_levels(levels)
    assert (found.p, found.test, found.reason) == (None, None, reason)


def test_pairs_without_spread_are_not_tested() -> None:
    assert compare_pairs([(1.0, 2.0)] * 2).reason == NOT_ENOUGH
    assert compare_pairs([(1.0, 1.0)] * 4).reason == ALL_SAME
    same_step = compare_pairs([(0.0, 1.0), (5.0, 6.0), (9.0, 10.0)])
    assert (same_step.p, same_step.difference) == (None, -1.0)
    assert same_step.reason == "every pair differs by the same"


def test_hedges_g_is_cohens_d_made_smaller() -> None:
    """Means 2 and 5 with s = 1 each, n = 3: d = -3, df = 4, so g = -3 (1 - 3/15) = -2.4."""
    assert hedges_g([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]) == pytest.approx(-2.4)
    assert hedges_g([1.0, 1.0], [2.0, 2.0]) is None


def test_holm_by_hand() -> None:
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, and 0.04 raised to 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
@settings(max_examples=100, deadline=None)
def test_holm_keeps_the_order_and_is_between_the_chance_and_bonferroni(chances: list[float]) -> None:
    adjusted = holm(chances)
    pairs = sorted(zip(chances, adjusted, strict=True))
    assert all(one <= more <= min(1.0, one * len(chances)) for one, more in pairs)
    assert [more for _, more in pairs] == sorted(adjusted)


@given(st.lists(sample, min_size=2, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_numbers_give_a_chance_or_a_reason(levels: list[list[float]]) -> None:
    found = compare_levels(levels)
    assert (found.p is None) == (found.reason is not None)
    assert found.p is None or (0 <= found.p <= 1 and not math.isnan(found.p))
    pairs = list(zip(levels[0], levels[1], strict=False))
    paired = compare_pairs(pairs)
    assert (paired.p is None) == (paired.reason is not None)
