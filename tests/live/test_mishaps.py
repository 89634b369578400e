"""What goes wrong in the middle of a session leaves it going on, and its record true."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
import torch
from live_tasks import retrained, same_weights, session_of, train
from torch import nn

from tuner.errors import UsageError
from tuner.live import Live
from tuner.live.page import process
from tuner.live.page.board import Board
from tuner.live.watching import Change
from tuner.turns import NO_PHASE

pytestmark = pytest.mark.usefixtures("own_folder")

WITH_ACTIONS = """
from tiny import Tiny


class Acting(Tiny):
    actions = ('grow', 'break')
    phases = ('warm', 'hot')

    def on_action(self, action, model, state):
        model[0].weight.mul_(1.5)
        if action == 'break':
            raise RuntimeError('no such layer')
        return {}
"""


def acting(folder: Path, studies: Path, **settings):
    (folder / "acting.py").write_text(WITH_ACTIONS)
    return session_of("acting.py", studies, batch_size=8, **settings)


def test_an_action_that_fails_is_as_if_it_had_not_been_asked_for(own_folder, tmp_path, capsys):
    live = acting(own_folder, tmp_path)
    train(live, 3)
    for action in ("grow", "break", "grow"):
        live.session.desk.press("action", action)
    train(live, 3)
    assert [change.name for change in live.session.changes] == ["grow", "grow"]
    assert "RuntimeError: no such layer" in capsys.readouterr().err
    live.end()
    assert same_weights(retrained(live), live.run)


def test_a_reset_for_which_there_is_no_memory_leaves_the_run_going_on(own_folder, tmp_path, monkeypatch):
    live = acting(own_folder, tmp_path)
    train(live, 3)
    run = live.run.run

    def start(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(live.trainer, "start", start)
    train(live, 2, {3: [("reset",)]})
    assert live.run.run is run
    assert (live.run.steps_done, run.steps_done, live.session.changes) == (5, 5, [])


def test_what_is_refused_at_last_leaves_no_change_no_undo_and_nothing_beside_it(tmp_path):
    live = session_of("tiny.py", tmp_path, batch_size=8, optimizer="RMSprop", scheduler="OneCycleLR")
    live.run.check = lambda name, value: None  # as where only the switch itself tells that it cannot be
    train(live, 4, {1: [("scheduler", "OneCycleLR")], 2: [("optimizer", "SGD")], 3: [("optimizer", "Adagrad")]})
    assert [change.after for change in live.session.changes] == ["OneCycleLR", "SGD"]
    train(live, 1, {4: [("optimizer_kwargs.momentum", 0.5)]})
    train(live, 2, {5: [("optimizer", "Adagrad"), ("optimizer", "AdamW")], 6: [("undo",)]})
    assert type(live.run.run.optimizer).__name__ == "SGD"
    assert live.run.run.optimizer.param_groups[0]["momentum"] == 0.5
    live.end()
    assert same_weights(retrained(live), live.run)


def test_a_validation_that_fails_is_done_again_and_its_step_is_seen(tmp_path, monkeypatch):
    live = session_of("tiny.py", tmp_path, batch_size=8, scheduler="ExponentialLR", scheduler_kwargs__gamma=0.5)
    live.session.attended = True
    told = []
    monkeypatch.setattr(live.watcher, "tell", lambda kind, **content: told.append((kind, content)))
    train(live, 3, {1: [("scheduler", "ExponentialLR")]})
    validate, failures = live.run.run._validate, [RuntimeError("no memory")]

    def fails_once():
        if failures:
            raise failures.pop()
        return validate()

    monkeypatch.setattr(live.run.run, "_validate", fails_once)
    monkeypatch.setattr(live.session.desk, "wait", lambda seconds: live.session.desk.press("go_on"))
    monkeypatch.setattr(live.session.pace, "may_tell", lambda: True)
    live.session.desk.turn("steps_per_update", 1)

    def until_seven():
        if live.run.steps_done == 7:
            live.session.desk.press("stop")

    live._check_stop = until_seven
    live.train()
    steps = [step for kind, content in told if kind == "rows" for step, _ in content["rows"]]
    assert steps == list(range(7))
    assert sum(kind == "epoch" for kind, _ in told) == 1
    assert live.run.run.learning_rate == pytest.approx(1e-3)
    assert same_weights(retrained(live), live.run)


def test_a_step_that_fails_pauses_and_says_what_it_left(tmp_path, monkeypatch):
    live = session_of("tiny.py", tmp_path, batch_size=8, model__norm=True)
    live.session.attended = True
    told = []
    monkeypatch.setattr(live.watcher, "tell", lambda kind, **content: told.append(content.get("text", "")))
    monkeypatch.setattr(live.run.run, "step", lambda: 1 / 0)
    live.session.hooks.__dict__["while_waiting"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        live.train()
    assert live.session.paused
    assert any("ZeroDivisionError" in text for text in told)
    assert any("what the step had changed of the model stays" in text for text in told)


def interrupt():
    raise KeyboardInterrupt


def test_a_record_without_an_end_is_trained_to_its_last_turn(own_folder, tmp_path, tuner):
    live = acting(own_folder, tmp_path, epochs=1)
    train(live, 11, {9: [("learning_rate", 0.01)]})
    found = tuner("train", "--timeline", str(live.folder.path), "--out", "again")
    assert found.code == 0, found.err
    assert "is trained for 10 steps" in found.out + found.err


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


def test_a_phase_whose_name_begins_like_none(tmp_path, own_folder):
    live = acting(own_folder, tmp_path)
    live.run.turns.set_phase(0, f"{NO_PHASE}such")
    assert live.run.phase() == "nonesuch"
    live.run.turns.set_phase(0, NO_PHASE)
    assert live.run.run.knobs.phase(0) == ""


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


def test_a_model_without_parameters_and_a_loop_without_anything(tmp_path):
    empty = nn.Identity()
    with Live("x", model=empty, page=False, folder=tmp_path) as live:
        live.reset()
        assert live.step()
    with Live("x", page=False, folder=tmp_path) as live:
        assert live.step()
    assert live.folder == tmp_path / "x-live-002"


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


def test_a_message_that_fails_is_no_reason_to_take_no_more(capsys):
    board = Board({"title": "x", "controls": [], "buttons": []}, lambda wish: None)
    change = vars(Change(1, 0.0, "reset", None, None))
    messages = [
        [{"kind": "change", **change}, {"kind": "change", **change}],
        [{"kind": "frame", "pictures": []}],
        [{"kind": "nonsense"}],
        [{"kind": "ended", "text": "ended"}],
    ]

    class Connection:
        def recv(self):
            return messages.pop(0)

    class Server:
        should_exit = False

    async def listen():
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(process._listen, Connection(), board, loop, Server)

    asyncio.run(listen())
    assert (board.ended, len(board.changes), Server.should_exit) == ("ended", 2, True)
    assert "nonsense" in capsys.readouterr().err
