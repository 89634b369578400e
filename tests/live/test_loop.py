"""`Live` around a loop of one's own, without a page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tuner.errors import UsageError
from tuner.live import Live
from tuner.live.controls import Control, control_of
from tuner.live.pictures import as_array, as_picture, side_by_side

CONTROLS = {"loss": ["mse", "l1"], "learning_rate": (1e-5, 1e-1, "log"), "noise": (0.0, 1.0), "twice": False}


def loop(live: Live, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 20, script=None) -> None:
    generator = torch.Generator().manual_seed(1)
    losses = {"mse": nn.functional.mse_loss, "l1": nn.functional.l1_loss}
    while live.steps_done < steps and live.step():
        x = torch.randn(8, 3, generator=generator) + live["noise"]
        loss = losses[live["loss"]](model(x).squeeze(1), x.sum(dim=1))
        optimizer.zero_grad()
        (loss * (2 if live["twice"] else 1)).backward()
        optimizer.step()
        live.log(loss=loss)
        live.end_step()
        for name, *value in (script or {}).get(live.steps_done, []):
            live.turn(name, value[0]) if value else getattr(live, name)()


def made():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return model, torch.optim.Adam(model.parameters(), lr=1e-2)


SCRIPT = {
    3: [("learning_rate", 0.05), ("loss", "l1")],
    5: [("noise", 0.1), ("twice", True)],
    8: [("undo",)],
    10: [("reset",)],
    12: [("learning_rate", 0.001)],
}


def test_what_is_turned_is_there_at_the_next_step_and_trains_the_same_again(tmp_path: Path):
    model, optimizer = made()
    with Live("my run!", optimizer=optimizer, model=model, controls=CONTROLS, page=False, folder=tmp_path) as live:
        assert live["learning_rate"] == 1e-2  # the optimizer's own
        loop(live, model, optimizer, script=SCRIPT)
        changes = [(change.step, change.name, change.after) for change in live.changes]
    assert changes == [
        (3, "learning_rate", 0.05),
        (3, "loss", "l1"),
        (5, "noise", 0.1),
        (5, "twice", True),
        (8, "twice", False),
        (10, "reset", None),
        (12, "learning_rate", 0.001),
    ]
    assert live.folder == tmp_path / "my-run-live-001"
    assert optimizer.param_groups[0]["lr"] == 0.001
    again, other = made()
    with Live(
        "again", optimizer=other, model=again, controls=CONTROLS, page=False, folder=None, replay=live.folder
    ) as two:
        loop(two, again, other, steps=10**6)
    assert two.steps_done == 20
    assert torch.equal(model.weight, again.weight)
    assert torch.equal(model.bias, again.bias)


def test_parameter_groups_keep_their_proportion():
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD([{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.01}])
    controls = {"learning_rate": (0.001, 1.0, "log")}
    with Live("x", optimizer=optimizer, controls=controls, page=False, folder=None) as live:
        live.turn("learning_rate", 0.5)
        live.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.05])


def test_a_broken_loss_can_be_taken_back(tmp_path: Path):
    model, optimizer = made()
    with Live("x", optimizer=optimizer, model=model, controls=CONTROLS, page=False, folder=tmp_path) as live:
        live.session.pace.may_snapshot = lambda turning: True
        loop(live, model, optimizer, steps=6)
        good = {name: value.clone() for name, value in model.state_dict().items()}
        live.turn("learning_rate", 0.1)
        live.step()
        live.log(loss=torch.tensor(1.0))
        live.end_step()
        live.step()
        with torch.no_grad():
            model.weight.fill_(math.nan)
        live.log(loss=torch.tensor(math.nan))
        live.end_step()
        assert live.session.checkpoints.broken_at == 7
        assert not live.session.paused  # nobody could go on
        live.restore()
        live.step()
    assert live.session.checkpoints.broken_at == -1
    assert all(torch.equal(model.state_dict()[name], value) for name, value in good.items())
    assert live["learning_rate"] == 1e-2


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ((1.0, 0.5), "from a lower to a higher end"),
        ((0.0, 1.0, "log"), "begins above 0"),
        ((0.0, 1.0, "logg"), "Did you mean 'log'"),
        ((0.0, 1.0, "linear", 2.0), "must be from 0 to 1"),
        (["a", "a"], "different texts"),
        (["a;b"], "without ';'"),
        (["a "], "no spaces around"),
        ([], "different texts"),
        ("mse", "is a list of choices"),
        ((0, math.inf), "from a lower to a higher end"),
    ],
)
def test_controls_that_cannot_be(given, rule):
    with pytest.raises(UsageError, match=rule):
        Live("x", controls={"x": given}, page=False, folder=None)


@pytest.mark.parametrize(
    "name", ["a:b", "a;b", "a=b", "", "STEP", "step", "Action", "Phase", "phase", "restore", "1", 3]
)
def test_names_that_a_record_could_not_say(name):
    with pytest.raises(UsageError, match=r"a control's name|is a list of choices"):
        Live("x", controls={name: (0.0, 1.0)}, page=False, folder=None)


def test_what_nobody_turned_stays_as_the_optimizer_has_it():
    model = nn.Linear(3, 1)
    groups = [{"params": [model.weight], "weight_decay": 0.1}, {"params": [model.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    with Live("x", optimizer=optimizer, controls={"weight_decay": (0.0, 1.0)}, page=False, folder=None) as live:
        live.step()
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_settings_come_back_with_a_checkpoint_and_in_its_replay(tmp_path):
    def run(replay=None):
        model, optimizer = made()
        more = {"model": model, "optimizer": optimizer, "controls": CONTROLS, "page": False}
        with Live("x", **more, folder=tmp_path, replay=replay) as live:
            live.session.pace.may_snapshot = lambda turning: replay is not None or live.steps_done == 10
            live.session.pace.may_tell = lambda: True
            script = {10: [("loss", "l1")], 13: [("restore",)], 16: [("learning_rate", 0.05)]} if not replay else {}
            loop(live, model, optimizer, script=script)
            assert live["loss"] == "mse"
        return live.folder, model.weight

    folder, weight = run()
    assert "restore=10" in (folder / "timeline.csv").read_text()
    assert torch.equal(run(folder)[1], weight)


@pytest.mark.parametrize("value", ["x", None, {"a": 1}, torch.zeros(3), np.str_("a"), torch.tensor(1j), 1j])
def test_what_is_neither_number_nor_picture_is_refused_by_name(value):
    with Live("x", page=False, folder=None) as live, pytest.raises(UsageError, match="log: acc"):
        live.log(acc=value)


def test_controls_in_short():
    assert control_of("x", (1, 64)) == Control("x", "number", 1, 1.0, 64.0, whole=True)
    assert control_of("x", (0, 1)).whole is False
    assert control_of("x", (0.0, 1.0, "cubic", 0.25)).value == 0.25
    assert control_of("x", ["a", "b"]).value == "a"
    assert control_of("x", True).kind == "switch"


@given(st.one_of(st.none(), st.booleans(), st.text(), st.floats(), st.integers(), st.lists(st.integers())))
def test_a_control_takes_its_own_values_only(value):
    number, choice = control_of("x", (0.5, 2.0)), control_of("y", ["a", "b"])
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0.5 <= value <= 2
    for control, right in ((number, fits), (choice, value in ("a", "b") and isinstance(value, str))):
        if right:
            assert control.check(value) == value
        else:
            with pytest.raises(UsageError):
                control.check(value)


def test_the_desk_refuses_what_is_no_control_and_no_button():
    with Live("x", controls=CONTROLS, page=False, folder=None) as live:
        for wrong in (("los", "l1"), ("loss", "l2"), ("learning_rate", 1.0), (None, 1)):
            with pytest.raises(UsageError):
                live.session.desk.turn(*wrong)
        with pytest.raises(UsageError, match="there is no such button"):
            live.session.desk.press("reset")  # there is no model that could begin anew
        assert live.session.desk.take() == []


def test_pictures_of_many_forms():
    grey = as_picture(as_array(torch.tensor([[0.0, 1.0], [0.5, math.nan]])))
    assert grey[:, :, 0].tolist() == [[0, 255], [128, 0]]
    assert as_array(np.zeros((3, 5, 7))).shape == (5, 7, 3)
    assert as_picture(as_array(np.full((4, 4, 4), 9, np.uint8))).tolist() == np.full((4, 4, 3), 9).tolist()
    row = side_by_side([as_array(np.ones((2, 2))), as_array(np.zeros((4, 1)))])
    assert row.shape == (4, 5, 3)
    for wrong in (np.zeros(3), np.zeros((2, 2, 2)), np.zeros((0, 3)), np.array([["a"]])):
        with pytest.raises(UsageError, match="a picture is"):
            as_array(wrong)
