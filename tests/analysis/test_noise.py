"""Noise, spikes and roughness against closed forms and planted ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tuner.analysis.noise import (
    BLOCK_SHARE,
    FEWEST_STEPS,
    FIRST_BLOCK,
    SPIKE,
    block_edges,
    has_logarithm,
    phase_noise,
    residual,
    roughness,
    scale_of,
    series_noise,
    spikes_in,
    trend,
)

numbers = st.floats(-1e6, 1e6, allow_nan=False, width=32)


def noise(steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=steps)


@pytest.mark.parametrize("steps", [16, 17, 40, 100, 1_000, 10_000])
def test_blocks_cut_a_phase_without_a_gap(steps: int) -> None:
    edges = block_edges(steps)
    sizes = np.diff(edges)
    assert (edges[0], edges[-1], sizes[0] >= FIRST_BLOCK) == (0, steps, True)
    largest = max(FIRST_BLOCK, round(BLOCK_SHARE * steps))
    assert all(size <= largest for size in sizes[:-1])
    assert sizes[-1] < 2 * math.ceil(1.5 * largest)


@pytest.mark.parametrize("steps", [16, 50, 333, 2_000])
def test_a_straight_line_is_its_own_trend(steps: int) -> None:
    line = 3.0 - 0.25 * np.arange(steps)
    assert trend(line) == pytest.approx(line, abs=1e-9)
    found = phase_noise(line)
    assert found is not None
    assert (found.variance, found.spikes, found.highest) == (0.0, 0, 0.0)


@given(arrays(np.float64, st.integers(FEWEST_STEPS, 200), elements=numbers), st.floats(-100, 100), st.floats(-10, 10))
@settings(max_examples=60, deadline=None)
def test_adding_a_line_leaves_the_residual_as_it_is(values: np.ndarray, height: float, slope: float) -> None:
    """Medians move with a constant but not with a slope, so it holds within what the slope does inside a block."""
    before, after = residual(values), residual(values + height)
    assert after == pytest.approx(before, abs=1e-6 * (1 + np.abs(values).max()))
    sloped = residual(values + slope * np.arange(len(values)))
    assert np.abs(sloped - before).max() <= 6 * abs(slope) * 2 * FIRST_BLOCK + 1e-6 * (1 + np.abs(values).max())


@pytest.mark.parametrize("steps", [500, 2_000, 10_000])
def test_variance_is_the_noises_whatever_the_trend(steps: int) -> None:
    """A loss that falls by a factor of 400, in three ways, with 10 % of noise."""
    t = np.arange(steps) / steps
    jitter = 0.1 * noise(steps)
    curves = [0.0 * t, -6 * t, np.log(0.01 + np.exp(-t * 30) + 0.3 * np.exp(-t * 5)), np.sin(6 * t)]
    found = [series_noise(np.exp(curve + jitter), [("", 0, steps)], log=True).pooled for curve in curves]
    variances = [entry.variance for entry in found if entry is not None]
    assert variances == pytest.approx([0.01] * len(curves), rel=0.15)
    assert variances[1:] == pytest.approx([variances[0]] * 3, rel=0.05)
    assert [entry.spikes for entry in found if entry is not None] == [0] * len(curves)


@pytest.mark.parametrize("factor", [2.0, 10.0])
def test_variance_grows_with_the_square_of_the_noise(factor: float) -> None:
    t = np.linspace(0, 1, 3_000)
    jitter = noise(3_000)
    once, more = phase_noise(5 * np.exp(-t) + 0.1 * jitter), phase_noise(5 * np.exp(-t) + 0.1 * factor * jitter)
    assert once is not None and more is not None
    assert more.variance / once.variance == pytest.approx(factor**2, rel=0.02)
    two_sources = phase_noise(0.1 * jitter + 0.1 * noise(3_000, seed=1))
    assert two_sources is not None
    assert two_sources.variance / once.variance == pytest.approx(2.0, rel=0.15)


@given(arrays(np.float64, st.integers(FEWEST_STEPS, 100), elements=numbers), st.sampled_from([0.5, 2.0, 64.0]))
@settings(max_examples=60, deadline=None)
def test_variance_and_rises_scale_with_the_units(values: np.ndarray, factor: float) -> None:
    once, scaled = phase_noise(values), phase_noise(factor * values)
    assert once is not None and scaled is not None
    assert scaled.variance == pytest.approx(factor**2 * once.variance)
    assert scaled.highest == pytest.approx(factor * once.highest)
    assert scaled.spikes == once.spikes


def test_scale_is_the_standard_deviation_of_normal_noise_in_spite_of_spikes() -> None:
    values = 0.3 * noise(20_000)
    assert scale_of(values) == pytest.approx(0.3, rel=0.03)
    values[::50] += 100.0
    assert scale_of(values) == pytest.approx(0.3, rel=0.06)
    assert scale_of(np.zeros(9)) == 0.0
    assert scale_of([0, 0, 0, 0, 1.0]) == pytest.approx(0.2 * math.sqrt(math.pi / 2))


@pytest.mark.parametrize("log", [False, True])
def test_planted_spikes_are_found_where_they_were_planted(log: bool) -> None:
    """A jump and a slow end each: 0.1 of noise, rises of 1.5 that halve every four steps."""
    steps, places = 4_000, [300, 1_111, 2_500, 3_990]
    curve = (-3 if log else 2) * np.linspace(0, 1, steps) + 0.1 * noise(steps)
    for place in places:
        later = np.arange(place, steps)
        curve[place:] += 1.5 * 0.5 ** ((later - place) / 4)
    values = np.exp(curve) if log else curve
    found = series_noise(values, [("", 0, steps)], log=log).pooled
    assert found is not None
    assert found.spikes == len(places)
    assert found.highest == pytest.approx(1.5, abs=0.4)
    rest = residual(np.log(values) if log else values)
    assert spikes_in(rest, scale_of(rest)) == pytest.approx(places, abs=2)


def test_noise_alone_has_no_spikes() -> None:
    for seed in range(40):
        found = phase_noise(noise(10_000, seed))
        assert found is not None
        assert found.spikes == 0
        assert 3 < found.highest < SPIKE


def test_a_phase_begins_with_no_spike() -> None:
    """The loss of the first steps is high because nothing is learnt yet."""
    values = 1 + 0.01 * noise(1_000)
    values[:3] += [5.0, 3.0, 1.0]
    found = phase_noise(values)
    assert found is not None
    assert (found.spikes, found.highest < 0.1) == (0, True)


def test_phases_have_their_own_trend_and_are_pooled_by_steps() -> None:
    quiet, loud = 0.1 * noise(600), 50 + 0.4 * noise(1_200, seed=1)
    loud[700] += 10
    values = np.concatenate([quiet, loud])
    found = series_noise(values, [("a", 0, 600), ("b", 600, 1_800)])
    alone = [phase_noise(quiet), phase_noise(loud)]
    assert [*found.phases.values()] == alone
    assert found.pooled is not None and alone[0] is not None and alone[1] is not None
    assert found.pooled.variance == pytest.approx((alone[0].variance + 2 * alone[1].variance) / 3)
    assert (found.pooled.spikes, found.pooled.steps) == (1, 1_800)
    assert found.pooled.highest == alone[1].highest == pytest.approx(10, abs=1)
    again = series_noise(np.concatenate([quiet, quiet]), [("a", 0, 600), ("a", 600, 1_200)])
    assert [*again.phases] == ["a"]
    assert again.phases["a"].steps == 1_200


def test_what_cannot_be_told_is_not_told() -> None:
    short = series_noise(noise(FEWEST_STEPS - 1), [("", 0, 100)])
    assert (short.pooled, short.phases) == (None, {})
    broken = np.ones(100)
    broken[50] = math.nan
    assert series_noise(broken, [("", 0, 100)]).pooled is None
    assert series_noise(noise(100), [("", 0, 100)], log=True).pooled is None
    with pytest.raises(ValueError, match="at least 16 steps"):
        trend(np.ones(3))


def test_a_term_that_rests_at_zero_for_a_phase_still_has_a_logarithm() -> None:
    values = np.concatenate([np.zeros(200), np.exp(0.1 * noise(200))])
    phases = [("off", 0, 200), ("on", 200, 400)]
    assert has_logarithm(values, phases)
    assert not has_logarithm(values, [("", 0, 400)])
    found = series_noise(values, phases, log=True)
    assert found.phases["off"].variance == 0.0
    assert found.phases["on"].variance == pytest.approx(0.01, rel=0.3)


def test_a_straight_path_at_even_speed_is_smooth() -> None:
    times = np.arange(20)[:, None, None]
    path = np.ones((20, 5, 3)) + times * np.random.default_rng(0).normal(size=(1, 5, 3))
    assert roughness(path) == pytest.approx(0.0, abs=1e-24)


def test_roughness_of_a_parabola_is_known() -> None:
    """x = c t^2 has the second difference 2 c at every time, so the mean square is 4 |c|^2, averaged over points."""
    c = np.random.default_rng(1).normal(size=(6, 2))
    path = c[None] * (np.arange(30) ** 2)[:, None, None]
    assert roughness(path) == pytest.approx(4 * (c**2).sum(axis=1).mean())
    assert roughness(path[:, 0]) == pytest.approx(4 * (c[0] ** 2).sum())
    assert roughness(path[:, 0, 0]) == pytest.approx(4 * c[0, 0] ** 2)
    assert roughness(10 * path) == pytest.approx(400 * (c**2).sum(axis=1).mean())


def test_uneven_recording_does_not_roughen_a_straight_path() -> None:
    steps = np.array([0, 10, 20, 30, 35])
    path = steps[:, None] * np.array([[1.0, -2.0]])
    assert roughness(path, steps) == pytest.approx(0.0, abs=1e-20)
    even = np.random.default_rng(0).normal(size=(9, 4, 2))
    assert roughness(even, 10 * np.arange(9)) == pytest.approx(roughness(even))


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        (np.ones((2, 3)), None),
        (np.full((4, 3), np.nan), None),
        (np.ones((4, 0)), None),
        (np.ones((4, 3)), [0, 1, 1, 2]),
    ],
)
def test_no_roughness_where_there_is_no_path(path: np.ndarray, steps: list[int] | None) -> None:
    assert roughness(path, steps) is None
