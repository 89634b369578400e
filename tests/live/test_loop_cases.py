"""Loops of one's own of every kind: parameter groups, schedules of their own, no model at all, and mistakes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tuner.errors import UsageError
from tuner.live import Live


class Unfrozen(nn.Module):
    """Whose second layer's parameters come later."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 1)


def test_parameter_groups_that_are_added_later_keep_their_proportion(tmp_path):
    model = Unfrozen()
    optimizer = torch.optim.SGD([{"params": model.first.parameters(), "lr": 0.1}], lr=0.1)
    controls = {"learning_rate": (0.001, 1.0, "log")}
    with Live("x", optimizer=optimizer, model=model, controls=controls, page=False, folder=tmp_path) as live:
        live.step()
        live.end_step()
        optimizer.add_param_group({"params": model.second.parameters(), "lr": 0.02})
        live.turn("learning_rate", 0.5)
        live.step()
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.1])
        weight = model.first.weight.detach().clone()
        live.reset()  # which cannot be, with groups of which the beginning knows nothing
        live.step()
        assert torch.equal(model.first.weight, weight)
        assert [change.name for change in live.changes] == ["learning_rate"]


def test_numbers_that_nobody_turned_stay_what_each_group_has(tmp_path):
    model = nn.Linear(3, 1)
    groups = [{"params": [model.bias], "weight_decay": 0.0}, {"params": [model.weight], "weight_decay": 0.1}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    controls = {"weight_decay": (0.0, 1.0), "learning_rate": (1e-5, 1.0, "log")}
    decays = lambda: [group["weight_decay"] for group in optimizer.param_groups]  # noqa: E731
    with Live("x", optimizer=optimizer, model=model, controls=controls, page=False, folder=tmp_path) as live:
        assert live["weight_decay"] == 0.1
        live.session.pace.may_snapshot = live.session.pace.may_tell = lambda *_: True
        for wish in (lambda: live.turn("learning_rate", 0.01), live.reset, live.restore):
            wish()
            for _ in range(3):
                live.step()
                live.log(loss=1.0)
                live.end_step()
            assert decays() == [0.0, 0.1]
        live.turn("weight_decay", 0.2)
        live.step()
        assert decays() == pytest.approx([0.0, 0.2])
        live.end_step()
        live.undo()
        live.step()
        assert decays() == pytest.approx([0.0, 0.1])


def own_schedule(folder, replay=None):
    """A loop with a scheduler of its own; a turn that is undone, and one that is turned back at the first step."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    controls = {"learning_rate": (1e-5, 1.0, "log")}
    data = torch.randn(12, 8, 3, generator=torch.Generator().manual_seed(0))
    with Live(
        "x", optimizer=optimizer, model=model, controls=controls, page=False, folder=folder, replay=replay
    ) as live:
        if replay is None:
            live.session.turn("learning_rate", 0.5)
            live.session.act("reset")
            live.session.turn("learning_rate", 0.1)
        while live.steps_done < 12 and live.step():
            optimizer.zero_grad()
            model(data[live.steps_done]).square().mean().backward()
            optimizer.step()
            decay.step()
            live.end_step()
            if replay is None and live.steps_done == 5:
                live.turn("learning_rate", 0.3)
                live.undo()
            if replay is None and live.steps_done == 8:
                live.turn("learning_rate", 0.2)
    return live.folder, model.weight.detach()


def test_a_loop_with_a_schedule_of_its_own_is_trained_again_exactly(tmp_path):
    folder, weight = own_schedule(tmp_path)
    assert torch.equal(own_schedule(tmp_path, folder)[1], weight)


def test_a_model_without_parameters_and_a_loop_without_anything(tmp_path):
    empty = nn.Identity()
    with Live("x", model=empty, page=False, folder=tmp_path) as live:
        live.reset()
        assert live.step()
    with Live("x", page=False, folder=tmp_path) as live:
        assert live.step()
    assert live.folder == tmp_path / "x-live-002"


def test_a_loop_with_a_model_leaves_its_weights(tmp_path):
    with Live("x", model=nn.Linear(1, 1), page=False, folder=tmp_path) as live:
        live.step()
    assert (live.folder / "weights.safetensors").is_file()


def test_a_session_is_entered_once(tmp_path):
    live = Live("x", page=False, folder=tmp_path / "studies")
    assert not (tmp_path / "studies").exists()  # nothing before it begins
    with live, pytest.raises(UsageError, match="is entered once"), live:
        pass
    with pytest.raises(UsageError, match="is entered once"), live:
        pass


def test_sessions_that_begin_at_once_have_folders_of_their_own(tmp_path):
    with (
        Live("x", page=False, folder=tmp_path) as one,
        Live("x", page=False, folder=tmp_path) as other,
    ):
        assert one.folder != other.folder
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match="cannot be made: Not a directory"),
        Live("x", page=False, folder=tmp_path / "file"),
    ):
        pass


def test_a_page_that_cannot_be_leaves_nothing(tmp_path):
    with (
        pytest.raises(UsageError, match="cannot be listened on"),
        Live("x", host="192.0.2.1", folder=tmp_path / "studies"),
    ):
        pass
    assert not (tmp_path / "studies").exists()


def test_without_a_page_what_is_refused_is_said(tmp_path, capsys):
    with Live("x", model=nn.Linear(1, 1), page=False, folder=tmp_path) as live:
        live.undo()
        live.restore()
        live.step()
        live.log(loss=math.nan)
        live.end_step()
        assert live.step()  # nobody could go on
    said = capsys.readouterr().err
    assert "nothing was turned that could be undone" in said
    assert "there is no good checkpoint yet" in said
    assert "the loss is not finite at step 0\n" in said


def test_mistakes_in_a_loop_of_ones_own_are_told_by_name(tmp_path, capsys):
    with pytest.raises(UsageError, match="optimizer: is no optimizer"):
        Live("x", optimizer="adam", page=False)
    with pytest.raises(UsageError, match="model: is no module"):
        Live("x", model=3, page=False)
    with Live("x", controls={"noise": (0.0, 1.0)}, page=False, folder=tmp_path) as live:
        with pytest.raises(UsageError, match="Did you mean 'noise'"):
            live["noize"]
        with pytest.raises(UsageError, match="needs the model"):
            live.reset()
        live.step()
        live.log(loss=1.0)
        with pytest.raises(UsageError, match="end_step"):
            live.step()
    assert f"recorded in {tmp_path / 'x-live-001'}" in capsys.readouterr().err
