"""What was turned, and the timeline that it is."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tuner.knobs import Knobs
from tuner.live.folder import SessionFolder
from tuner.timeline import parse_timeline, read_csv, to_csv
from tuner.turns import NO_PHASE, TurnedKnobs, Turns

numbers = st.floats(allow_nan=False, allow_infinity=False)
steps = st.integers(0, 10**9)
words = st.sampled_from(["reset", "optimizer=SGD", "batch_size=17", "anchor", "save", "restore=12"])


@st.composite
def any_turns(draw: st.DrawFn) -> Turns:
    turns = Turns()
    turns.set(0, "learning_rate", draw(numbers))
    for step in sorted(draw(st.lists(steps, max_size=8))):
        kind = draw(st.integers(0, 2))
        if kind == 0:
            turns.set(step, draw(st.sampled_from(["learning_rate", "loss_weights.recon", "data.x"])), draw(numbers))
        elif kind == 1:
            turns.act(step, draw(words))
        elif not turns.phases or turns.phases[-1][1] != "warm up":
            turns.set_phase(step, "warm up")
    return turns


@given(any_turns())
def test_a_file_says_the_same_turns_to_the_last_bit(tmp_path_factory, turns):
    folder = SessionFolder(tmp_path_factory.mktemp("session"))
    folder.write_turns(turns)
    assert folder.turns() == turns


def test_a_number_holds_from_its_step_on():
    turns = Turns()
    turns.set(5, "learning_rate", 0.1)
    turns.set(9, "learning_rate", 0.2)
    assert [turns.at(step) for step in (4, 5, 8, 9, 100)] == [
        {},
        {"learning_rate": 0.1},
        {"learning_rate": 0.1},
        {"learning_rate": 0.2},
        {"learning_rate": 0.2},
    ]


def test_the_last_of_several_turns_at_a_step_counts():
    turns = Turns()
    for value in (0.1, 0.2, 0.3):
        turns.set(7, "learning_rate", value)
    assert turns.values == {"learning_rate": [(7, 0.3)]}


def test_what_is_turned_lies_over_the_recipes_timeline():
    timeline = parse_timeline({"keyframes": [{"STEP": 0, "lr:linear:step": 1.0, "PHASE": "a"}]}, "x")
    turns = Turns()
    turns.set(103, "learning_rate", 2.0)
    turns.set_phase(104, "b")
    turns.set_phase(105, NO_PHASE)
    knobs = TurnedKnobs.over(Knobs(10, timeline, {"lr": "learning_rate"}), turns, start=100)
    assert [knobs.at(step)["learning_rate"] for step in (2, 3)] == [1.0, 2.0]
    assert [knobs.phase(step) for step in (3, 4, 5)] == ["a", "b", ""]


def test_the_csv_is_one_that_a_person_reads(tmp_path: Path):
    turns = Turns()
    turns.set(0, "learning_rate", 0.002)
    turns.act(12, "optimizer=SGD")
    turns.act(12, "reset")
    turns.set(12, "learning_rate", 0.1)
    text = to_csv(turns.timeline())
    assert text == "STEP,PHASE,ACTION,learning_rate:linear:step\n0,,,0.002\n12,,optimizer=SGD;reset,0.1\n"
    (tmp_path / "a.csv").write_text(text)
    assert read_csv(tmp_path / "a.csv").curves["learning_rate"].at(11) == 0.002


def test_settings_come_back_with_the_step_that_is_gone_back_to():
    turns = Turns()
    for step, action in [(0, "scheduler=none"), (10, "optimizer=SGD"), (20, "restore=10"), (20, "loss=l1")]:
        turns.act(step, action)
    assert turns.settings() == {"scheduler": "none", "loss": "l1"}
    turns.act(30, "restore=15")
    assert turns.settings() == {"scheduler": "none", "optimizer": "SGD"}
