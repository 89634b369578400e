"""Checkpoints in memory: which are good, and what is given back with them."""

from __future__ import annotations

import math

import pytest
import torch
from live_tasks import acting, retrained, same_weights, session_of, train

pytestmark = pytest.mark.usefixtures("own_folder")


def test_going_back_gives_back_what_a_timeline_moved_and_the_phase(own_folder, tmp_path):
    column = "learning_rate:linear:linear"
    rows = [{"STEP": 0, "PHASE": "warm", column: 0.01}, {"STEP": 10, column: 0.02}]
    live = acting(own_folder, tmp_path, timeline={"keyframes": rows})
    train(live, 4)
    assert live.run.phase() == "warm"
    live.session.pace.may_snapshot = lambda turning: True
    train(live, 3, {4: [("learning_rate", 0.05), ("phase", "hot")]})
    assert (live.session.values["learning_rate"], live.run.phase()) == (0.05, "hot")
    live.session.restore(4)
    train(live, 2)
    assert live.run.run.steps_done == 6
    assert live.session.values["learning_rate"] == pytest.approx(0.014)
    assert live.run.phase() == "warm"
    live.end()
    assert same_weights(retrained(live), live.run)


def test_a_checkpoint_of_weights_that_gave_no_finite_loss_is_not_offered(tmp_path):
    live = session_of("tiny.py", tmp_path, batch_size=8)
    live.session.pace.may_snapshot = lambda turning: True
    train(live, 6)
    live.run.snapshots.clear()
    with torch.no_grad():
        for parameter in live.run.run.model.parameters():
            parameter.fill_(math.nan)
    live.session.turn("learning_rate", 0.01)
    for _ in range(3):
        train(live, 1)
        assert live.session.checkpoints.good == -1
        live.session.checkpoints.mended()


def test_a_refused_going_back_changes_nothing(tmp_path):
    live = session_of("tiny.py", tmp_path, batch_size=8)
    live.session.pace.may_snapshot = lambda turning: True
    train(live, 8, {3: [("loss", "mse")], 6: [("loss", "l1"), ("learning_rate", 0.01)]})
    live.session.publish()
    assert live.session.checkpoints.good > 0
    train(live, 2, {8: [("reset",), ("restore",)]})
    assert (live.session.values["loss"], live.session.values["learning_rate"]) == ("l1", 0.01)
    assert live.run.run.loss == "l1"
    live.end()
    assert same_weights(retrained(live), live.run)
