"""Curves: keys exactly, at rest between them, and never where they should not be."""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tuner.timeline import INTERPOLATIONS, SPACES, Curve

LARGEST = float(np.finfo(float).max)
SMALLEST = math.ulp(0.0)
STEPS = st.one_of(st.integers(0, 2**53).map(float), st.floats(0, 1e6))
POSITIVE = st.floats(min_value=SMALLEST, max_value=LARGEST)
ANY = st.floats(allow_nan=False, allow_infinity=False)
MODEST = st.floats(-1e6, 1e6)


@st.composite
def curves(draw, spaces=SPACES, interpolations=INTERPOLATIONS, least=1, modest=False):
    """Any curve of at least so many keys; a modest one's numbers have no extremes."""
    chosen = draw(st.sampled_from(spaces))
    steps = draw(st.lists(st.integers(0, 10**6) if modest else STEPS, min_size=least, max_size=6, unique=True))
    values = {"log": POSITIVE, "linear": ANY} if not modest else {"log": st.floats(1e-12, 1e12), "linear": MODEST}
    keys = tuple((float(step), draw(values[chosen])) for step in sorted(steps))
    return Curve(chosen, draw(st.sampled_from(interpolations)), keys)


def between(curve: Curve, share: float) -> tuple[tuple[float, float], tuple[float, float], float]:
    """The first two keys, and the position at `share` of the way."""
    first, second = curve.keys[:2]
    return first, second, first[0] + share * (second[0] - first[0])


@settings(deadline=None)
@given(curve=curves(), distance=st.floats(0, 1e6))
def test_keys_are_met_exactly_and_the_outer_ones_hold(curve, distance):
    for step, value in curve.keys:
        assert curve.at(step) == value
    assert curve.at(curve.keys[0][0] - distance) == curve.keys[0][1]
    assert curve.at(curve.keys[-1][0] + distance) == curve.keys[-1][1]


@settings(deadline=None)
@given(curve=curves(least=2), share=st.floats(0, 1))
@example(Curve("log", "minjerk", ((0.0, LARGEST), (1.0, LARGEST))), 0.3)
@example(Curve("log", "linear", ((0.0, LARGEST), (1.0, math.nextafter(LARGEST, 0)))), 0.5)
@example(Curve("log", "minjerk", ((0.0, SMALLEST), (1.0, LARGEST))), 1e-9)
@example(Curve("linear", "linear", ((0.0, -LARGEST), (1.0, LARGEST))), 0.5)
def test_a_value_lies_between_those_of_the_keys_around_it(curve, share):
    (_, one), (_, two), position = between(curve, share)
    assert min(one, two) <= curve.at(position) <= max(one, two)


@settings(deadline=None)
@given(curve=curves(spaces=["log"], least=2), position=STEPS)
def test_a_value_in_log_space_is_above_zero(curve, position):
    assert curve.at(position) > 0


@settings(deadline=None)
@given(
    curve=curves(interpolations=["minjerk", "linear"], least=2, modest=True),
    shares=st.lists(st.floats(0, 1), min_size=2, max_size=20),
)
def test_a_value_moves_one_way_between_two_keys(curve, shares):
    (_, one), (_, two), _ = between(curve, 0)
    values = np.array([curve.at(between(curve, share)[2]) for share in sorted(shares)])
    if curve.space == "log":
        one, two, values = math.log(one), math.log(two), np.log(values)
    tolerance = 1e-14 * max(abs(one), abs(two), 1)
    assert (np.diff(values) * (1 if two >= one else -1) >= -tolerance).all()


@settings(deadline=None)
@given(one=MODEST, two=MODEST, steps=st.integers(1, 10**6), space=st.sampled_from(SPACES))
def test_minimum_jerk_is_at_rest_at_both_keys(one, two, steps, space):
    """The mean speed over the first and last h of the way shrinks with h squared: velocity and acceleration vanish."""
    if space == "log":
        one, two = 10 ** (one / 1e6), 10 ** (two / 1e6)
    curve = Curve(space, "minjerk", ((0.0, one), (float(steps), two)))
    path = math.log if space == "log" else float
    span = abs(path(two) - path(one))
    for h in (1e-1, 1e-2, 1e-3):
        for key, position in ((one, h * steps), (two, steps - h * steps)):
            moved = abs(path(curve.at(position)) - path(key))
            assert moved / h <= 10 * h**2 * span + 1e-12 * max(abs(one), abs(two), 1) / h


def quintic(share: float, one: float, two: float) -> float:
    """The polynomial of degree 5 whose first two derivatives vanish at both ends, by solving for it."""
    powers = np.arange(6)
    at_start = [np.eye(6)[order] * math.factorial(order) for order in range(3)]
    at_end = [[math.perm(int(power), order) for power in powers] for order in range(3)]
    coefficients = np.linalg.solve(np.array([*at_start, *at_end], dtype=float), [one, 0, 0, two, 0, 0])
    return float(np.polynomial.Polynomial(coefficients)(share))


@settings(deadline=None)
@given(share=st.floats(0, 1), one=st.floats(-10, 10), two=st.floats(-10, 10))
def test_minimum_jerk_is_the_quintic_at_rest_at_its_ends(share, one, two):
    assume(abs(two - one) > 1e-6)
    linear = Curve("linear", "minjerk", ((0.0, one), (1.0, two))).at(share)
    assert linear == pytest.approx(quintic(share, one, two), abs=1e-10)
    log = Curve("log", "minjerk", ((0.0, 10**one), (1.0, 10**two))).at(share)
    assert math.log10(log) == pytest.approx(quintic(share, one, two), abs=1e-10)


def test_minimum_jerk_by_hand():
    curve = Curve("linear", "minjerk", ((100.0, 1.0), (300.0, 3.0)))
    coefficients = np.polynomial.Polynomial([0, 0, 0, 10, -15, 6])
    for position in (100, 137, 150, 200, 250.5, 299, 300):
        assert curve.at(position) == pytest.approx(1 + 2 * coefficients((position - 100) / 200), abs=1e-14)
    assert curve.at(200) == 2.0
    assert curve.at(150) == 1 + 2 * 0.103515625


@settings(deadline=None)
@given(curve=curves(interpolations=["linear"], least=2, modest=True), positions=st.lists(st.floats(0, 1e6)))
def test_linear_is_a_straight_line_in_its_space(curve, positions):
    steps, values = np.array(curve.keys).T
    expected = np.interp(positions, steps, np.log(values) if curve.space == "log" else values)
    found = np.array([curve.at(position) for position in positions])
    scale = float(np.abs(values).max())
    if curve.space == "log":
        assert np.log(found) == pytest.approx(expected, abs=1e-9)
    else:
        assert found == pytest.approx(expected, abs=1e-9 * max(scale, 1))


def test_half_way_in_log_space_is_the_geometric_mean():
    for interpolation in ("linear", "minjerk"):
        curve = Curve("log", interpolation, ((0.0, 1e-8), (10.0, 1e-2)))
        assert curve.at(5) == pytest.approx(1e-5, rel=1e-12)


@settings(deadline=None)
@given(curve=curves(interpolations=["step"]), position=STEPS)
def test_step_holds_the_last_key_until_the_next_is_there(curve, position):
    steps, values = zip(*curve.keys, strict=True)
    assert curve.at(position) == values[max(0, bisect_right(steps, position) - 1)]


def test_step_at_and_just_before_a_key():
    curve = Curve("linear", "step", ((0.0, 1.0), (10.0, 2.0)))
    assert [curve.at(position) for position in (0, 9, 9.999999, 10, 11)] == [1, 1, 1, 2, 2]
