"""A session's record: what it can say, where it ends, and what the controls stood at."""

from __future__ import annotations

import pytest
from live_tasks import acting, session_of, train

from tuner.errors import UsageError
from tuner.turns import NO_PHASE

pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_record_without_an_end_is_trained_to_its_last_turn(own_folder, tmp_path, tuner):
    live = acting(own_folder, tmp_path, epochs=1)
    train(live, 11, {9: [("learning_rate", 0.01)]})
    found = tuner("train", "--timeline", str(live.folder.path), "--out", "again")
    assert found.code == 0, found.err
    assert "is trained for 10 steps" in found.out + found.err


def test_a_phase_whose_name_begins_like_none(tmp_path, own_folder):
    live = acting(own_folder, tmp_path)
    live.run.turns.set_phase(0, f"{NO_PHASE}such")
    assert live.run.phase() == "nonesuch"
    live.run.turns.set_phase(0, NO_PHASE)
    assert live.run.run.knobs.phase(0) == ""


def test_values_of_a_record_are_where_a_timeline_and_the_phase_are_though_out_of_reach(own_folder, tmp_path, tuner):
    column = "learning_rate:linear:linear"
    rows = [{"STEP": 0, "PHASE": "warm", column: 0.05}, {"STEP": 10, "PHASE": "hot", column: 0.5}]
    live = acting(own_folder, tmp_path, timeline={"keyframes": rows})
    train(live, 12)
    name = live.save_recipe()
    assert "0.05" in (live.folder.path / name).read_text()
    live.session.turn("learning_rate", 0.03)
    name = live.save_recipe()
    assert "learning_rate:linear:linear" not in (live.folder.path / name).read_text()
    live.session.undo()
    live.end()
    found = tuner("train", "--timeline", str(live.folder.path), "--out", "again")
    assert found.code == 0, found.err


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("actions = ('a;b',)", "'=' or ';' in it"),
        ("actions = ('reset',)", "the name of one of a session's own"),
        ("phases = ('none', 'x')", "the name of no phase"),
        ("properties = ('a:b',)\n    data_options = {'samples': 64, 'a:b': 1.0}", "has ':' in its name"),
    ],
)
def test_names_of_a_task_that_a_record_could_not_say(own_folder, tmp_path, body, rule):
    (own_folder / "odd.py").write_text(f"from tiny import Tiny\n\n\nclass OddTask(Tiny):\n    {body}\n")
    with pytest.raises(UsageError, match=rule):
        session_of("odd.py", tmp_path)
    assert not list(tmp_path.glob("*-live-*"))
