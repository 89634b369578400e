"""A timeline over a run: stretched, its phases without gaps, its actions once each, its keys replaced."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import SearchSpaceError
from tuner.timeline import Curve, Timeline, parse_timeline

EXAMPLE = Timeline(
    "",
    10_000,
    {
        "learning_rate": Curve("log", "minjerk", ((0.0, 1e-8), (10.0, 1e-2), (7_000.0, 2e-2), (10_000.0, 1e-3))),
        "separate": Curve("linear", "linear", ((500.0, 0.0), (2_500.0, 0.2), (7_500.0, 0.0))),
        "momentum": Curve("linear", "step", ((0.0, 0.5), (333.0, 0.9))),
    },
    ((0.0, "one"), (500.0, "two"), (7_500.0, "three")),
    ((0.0, "begin"), (500.0, "anchor"), (500.0, "shrink"), (9_999.0, "last"), (10_000.0, "never")),
)
SPANS = st.integers(1, 50_000)


@st.composite
def short_timelines(draw: st.DrawFn) -> Timeline:
    """Phases and actions at whole steps of a timeline of up to 200 steps, stretched or not."""
    length = draw(st.integers(1, 200))
    steps = st.lists(st.integers(0, length), max_size=6).map(sorted)
    actions = tuple((float(step), f"action {index}") for index, step in enumerate(draw(steps)))
    phases = tuple((float(step), draw(st.sampled_from("abc"))) for step in sorted(set(draw(steps))))
    return Timeline("", draw(st.sampled_from([length, None])), {}, phases, actions)


@settings(deadline=None)
@given(step=SPANS, run_steps=SPANS, factor=st.integers(1, 1_000))
def test_a_run_of_more_steps_goes_the_same_way(step: int, run_steps: int, factor: int) -> None:
    assert EXAMPLE.at(step * factor, run_steps * factor) == EXAMPLE.at(step, run_steps)
    assert EXAMPLE.phase(step * factor, run_steps * factor) == EXAMPLE.phase(step, run_steps)


@settings(deadline=None)
@given(step=st.integers(0, 10_000), run_steps=SPANS)
def test_at_its_own_length_a_timeline_is_not_stretched(step: int, run_steps: int) -> None:
    as_written = replace(EXAMPLE, steps=None)
    assert EXAMPLE.at(step, 10_000) == as_written.at(step, run_steps)
    assert EXAMPLE.phase(step, 10_000) == as_written.phase(step, run_steps)
    assert as_written.position(step, run_steps) == step


def test_at_gives_every_property_at_the_stretched_step() -> None:
    assert EXAMPLE.position(7, 20) == 3_500
    values = EXAMPLE.at(3, 20)
    assert list(values) == ["learning_rate", "separate", "momentum"]
    assert values["separate"] == pytest.approx(0.1)
    assert values["momentum"] == 0.9
    assert EXAMPLE.at(14, 20)["learning_rate"] == 2e-2


@settings(deadline=None)
@given(timeline=short_timelines(), run_steps=st.integers(1, 500))
def test_every_action_of_the_run_fires_exactly_once_in_order(timeline: Timeline, run_steps: int) -> None:
    end = run_steps if timeline.steps is None else timeline.steps
    fired = [name for step in range(run_steps) for name in timeline.actions_at(step, run_steps)]
    assert fired == [name for step, name in timeline.actions if step < end]
    assert timeline.actions_at(run_steps, run_steps) == timeline.actions_at(-1, run_steps) == ()


@settings(deadline=None)
@given(timeline=short_timelines(), run_steps=st.integers(1, 500))
def test_an_action_fires_at_the_first_step_that_reaches_it(timeline: Timeline, run_steps: int) -> None:
    """Where one does; between the last step and the timeline's end, at the last step."""
    length = run_steps if timeline.steps is None else timeline.steps
    positions = [Fraction(step * length, run_steps) for step in range(run_steps)]
    for position, name in timeline.actions:
        if position < length:
            first = next((step for step, reached in enumerate(positions) if reached >= position), run_steps - 1)
            assert name in timeline.actions_at(first, run_steps)


def test_actions_in_short_and_long_runs() -> None:
    assert [EXAMPLE.actions_at(step, 4) for step in range(4)] == [("begin",), ("anchor", "shrink"), (), ("last",)]
    assert EXAMPLE.actions_at(0, 1) == ("begin", "anchor", "shrink", "last")
    assert EXAMPLE.actions_at(1_000, 20_000) == ("anchor", "shrink")
    assert EXAMPLE.actions_at(999, 20_000) == EXAMPLE.actions_at(1_001, 20_000) == ()
    assert replace(EXAMPLE, steps=None).actions_at(10_000, 10_001) == ("never",)


@settings(deadline=None)
@given(timeline=short_timelines(), run_steps=st.integers(0, 500))
def test_phase_bounds_cover_the_run_as_phase_says(timeline: Timeline, run_steps: int) -> None:
    bounds = timeline.phase_bounds(run_steps)
    phases = [timeline.phase(step, run_steps) for step in range(run_steps)]
    assert [name for name, first, after in bounds for _ in range(first, after)] == phases
    assert [name for name, _, _ in bounds] == [name for name, _ in groupby(phases)]


def test_phase_bounds_by_hand() -> None:
    assert EXAMPLE.phase_bounds(100) == [("one", 0, 5), ("two", 5, 75), ("three", 75, 100)]
    assert EXAMPLE.phase_bounds(30) == [("one", 0, 2), ("two", 2, 23), ("three", 23, 30)]
    assert EXAMPLE.phase_bounds(1) == [("one", 0, 1)]
    late = replace(EXAMPLE, steps=None, phases=((40.0, "late"),))
    assert late.phase_bounds(100) == [("", 0, 40), ("late", 40, 100)]
    assert late.phase_bounds(40) == [("", 0, 40)]
    assert replace(late, phases=()).phase_bounds(7) == [("", 0, 7)]


@settings(deadline=None)
@given(step=st.integers(0, 10_000), value=st.floats(1e-9, 10))
def test_with_keys_moves_one_key_and_no_other(step: int, value: float) -> None:
    changed = EXAMPLE.with_keys({f"learning_rate@{step}": value})
    assert changed.at(step, 10_000)["learning_rate"] == value
    kept = [key for key in EXAMPLE.curves["learning_rate"].keys if key[0] != step]
    assert [key for key in changed.curves["learning_rate"].keys if key[0] != step] == kept
    assert changed.curves["separate"] == EXAMPLE.curves["separate"]
    assert (changed == EXAMPLE) == (EXAMPLE.curves["learning_rate"] == changed.curves["learning_rate"])


def test_with_keys_is_what_the_table_would_say() -> None:
    rows = [{"STEP": 0, "a": 1, "b.c:log": 2}, {"STEP": "+0.5", "a": 5}, {"STEP": 25, "a": 3, "b.c:log": 4}]
    table = parse_timeline({"keyframes": rows, "a@12.5": 7, "b.c@25": 6, "a@30": 1e-3}, "here")
    rows[1]["a"], rows[2]["b.c:log"] = 7, 6
    assert table == parse_timeline({"keyframes": [*rows, {"STEP": 30, "a": 0.001}]}, "here")


def test_with_no_keys_nothing_changes() -> None:
    before = copy.deepcopy(EXAMPLE)
    EXAMPLE.with_keys({"separate@0": 3, "momentum@0": 0.1})
    assert EXAMPLE.with_keys({}) == before == EXAMPLE


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "learning_rat@0",
            1,
            "learning_rat@0: the timeline has no property 'learning_rat'. Did you mean 'learning_rate'?",
        ),
        ("learning_rate", 1, "learning_rate: a key is written PROPERTY@STEP. Such as learning_rate@0"),
        ("learning_rate@", 1, "learning_rate@: a key stands at a whole step from 0 (got '')"),
        ("learning_rate@-1", 1, "learning_rate@-1: a key stands at a whole step from 0 (got '-1')"),
        ("learning_rate@+1", 1, "learning_rate@+1: a key stands at a whole step from 0 (got '+1')"),
        ("learning_rate@1.5", 1, "learning_rate@1.5: a key stands at a whole step from 0 (got '1.5')"),
        ("learning_rate@10001", 1, "learning_rate@10001: the timeline ends at step 10000 (got 10001)"),
        ("learning_rate@5", 0, "learning_rate@5: must be above 0 in log space (got 0)"),
        ("separate@5", float("nan"), "separate@5: must be a finite number (got nan)"),
        ("separate@5", True, "separate@5: must be a number (got True)"),
        ("separate@5", None, "separate@5: must be a number"),
    ],
)
def test_keys_that_cannot_be(key: str, value: float, message: str) -> None:
    with pytest.raises(SearchSpaceError) as raised:
        EXAMPLE.with_keys({key: value})
    assert str(raised.value) == message


def test_a_timeline_is_compared_hashed_copied_and_sent() -> None:
    rest = [("momentum", EXAMPLE.curves["momentum"])]
    for twin in (pickle.loads(pickle.dumps(EXAMPLE)), copy.deepcopy(EXAMPLE)):
        assert twin == EXAMPLE
        assert {EXAMPLE: 1}[twin] == 1
    assert replace(EXAMPLE, curves=dict(rest)) != EXAMPLE


def test_importing_it_is_light() -> None:
    code = "import sys, tuner.timeline; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "optuna", "pandas", "numpy", "pydantic", "yaml"} & set(loaded)
