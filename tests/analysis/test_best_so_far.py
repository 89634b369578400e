"""Best values so far, and the time that a study ran."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timed import MIDNIGHT, Told, in_turn, study_of

from tuner.analysis.progress import progress_of, wall_clock


def clock(spans: list[tuple[float, float]], limit: float | None = None) -> list[float]:
    started, completed = (pd.DatetimeIndex([MIDNIGHT + pd.Timedelta(seconds=s[i]) for s in spans]) for i in (0, 1))
    return wall_clock(started, completed, limit).tolist()


def test_time_in_which_no_trial_runs_does_not_count() -> None:
    assert clock([(0, 10), (5, 20), (1000, 1030)]) == [10, 20, 50]


def test_trials_that_run_at_once_do_not_count_twice() -> None:
    assert clock([(0, 10), (0, 10), (0, 12)]) == [10, 10, 12]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), min_size=1, max_size=12))
def test_it_counts_every_second_in_which_a_trial_ran_once(spans: list[tuple[int, int]]) -> None:
    found = clock([(start, start + length) for start, length in spans])
    running = {second for start, length in spans for second in range(start, start + length)}
    for (start, length), seconds in zip(spans, found, strict=True):
        assert seconds == sum(second < start + length for second in running)


def test_a_pause_with_trials_in_flight_is_cut_to_what_the_study_counted() -> None:
    day = 86_400.0
    found = clock([(0, 10), (10, day + 20), (10, day + 25), (day + 25, day + 40)], limit=60)
    assert found[0] == 10
    assert found[-1] == pytest.approx(60)
    assert found[2] - found[1] == pytest.approx(5)


def test_no_limit_lengthens_anything() -> None:
    assert clock([(0, 10), (10, 25)], limit=1000) == [10, 25]


def test_several_long_stretches_are_cut_to_one_length() -> None:
    found = clock([(0, 1), (1, 101), (101, 102), (102, 1102)], limit=22)
    assert np.diff([0, *found]).tolist() == pytest.approx([1, 10, 1, 10])


def test_trials_without_times_have_none() -> None:
    started = pd.DatetimeIndex([MIDNIGHT, pd.NaT])
    found = wall_clock(started, started + pd.Timedelta(seconds=3)).tolist()
    assert found[0] == 3
    assert math.isnan(found[1])
    assert wall_clock(pd.DatetimeIndex([]), pd.DatetimeIndex([])).tolist() == []


def test_the_best_value_so_far_is_told_after_so_many_trials_and_seconds() -> None:
    found = progress_of(in_turn("s", [0.5, None, 0.4, 0.7, 0.6], seconds=2))
    assert (found.trials, found.values) == ((0, 1, 4, 5), (None, 0.5, 0.7, 0.7))
    assert [found.after(n) for n in range(7)] == [None, 0.5, 0.5, 0.5, 0.7, 0.7, 0.7]
    assert [found.at(s) for s in (1.9, 2, 7.9, 8)] == [None, 0.5, 0.5, 0.7]
    assert (found.ended, found.wall_seconds) == (5, 10)


def test_lower_is_better_where_it_is_minimized() -> None:
    assert progress_of(in_turn("s", [0.5, 0.7, 0.4], maximize=False)).values == (None, 0.5, 0.4)


def test_trials_count_in_the_order_in_which_they_ended() -> None:
    found = progress_of(study_of("s", [Told(0.9, 0, 30), Told(0.5, 0, 10), Told(0.7, 10, 20)]))
    assert (found.trials, found.values, found.seconds) == ((0, 1, 2, 3), (None, 0.5, 0.7, 0.9), (0.0, 10, 20, 30))


def test_trials_taken_over_cost_nothing_and_stand_at_the_beginning() -> None:
    earlier = {"warm_start": {"study": "before", "trial": 3}}
    found = progress_of(study_of("s", [Told(0.8, -9000, -8000, attrs=earlier), Told(0.5, 0, 10), Told(0.9, 10, 20)]))
    assert (found.trials, found.values, found.seconds) == ((0, 2), (0.8, 0.9), (0.0, 20))


def test_a_study_without_trials_has_no_progress() -> None:
    found = progress_of(study_of("s", []))
    assert (found.ended, found.wall_seconds, found.values) == (0, None, (None,))
