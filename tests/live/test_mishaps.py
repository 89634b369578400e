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


@pytest.mark.parametrize(("first", "second"), [("Adam", "SGD"), ("SGD", "Adam"), ("SGD", "RMSprop")])
@pytest.mark.parametrize("scheduler", ["OneCycleLR", "CyclicLR"])
def test_a_cyclic_scheduler_goes_on_over_another_optimizer(tmp_path, scheduler, first, second):
    more = {"scheduler_kwargs__base_lr": 1e-4, "scheduler_kwargs__max_lr": 0.01} if scheduler == "CyclicLR" else {}
    live = session_of(
        "tiny.py",
        tmp_path,
        batch_size=8,
        optimizer=first,
        scheduler=scheduler,
        scheduler_configs__interval="step",
        **more,
    )
    train(live, 3, {1: [("scheduler", scheduler)]})
    before = live.run.run.learning_rate
    live.session.turn("optimizer", second)
    assert live.run.run.learning_rate == before
    train(live, 6)
    assert type(live.run.run.optimizer).__name__ == second
    live.end()
    assert same_weights(retrained(live), live.run)


def test_a_scheduler_keeps_its_length_when_batches_change_and_all_goes_back(tmp_path):
    live = session_of(
        "tiny.py", tmp_path, batch_size=16, epochs=2, scheduler="OneCycleLR", scheduler_configs__interval="step"
    )
    train(live, 5, {1: [("scheduler", "OneCycleLR")], 2: [("batch_size", 4)]})
    live.run.take_snapshot()
    train(live, 1)
    live.session.restore(5)
    train(live, 20, {10: [("optimizer", "SGD")]})
    live.end()
    assert live.run.steps_done == 26
    assert same_weights(retrained(live), live.run)


def test_a_reset_does_not_mind_that_the_recipes_own_scheduler_would_not_suit(tmp_path):
    live = session_of("tiny.py", tmp_path, batch_size=8, scheduler="OneCycleLR")
    train(live, 5, {1: [("optimizer", "Adagrad")], 3: [("reset",)]})
    assert (live.run.run.steps_done, type(live.run.run.optimizer).__name__) == (2, "Adagrad")


def test_what_suits_only_after_another_turn_of_the_same_pause_is_taken(tmp_path):
    live = session_of("tiny.py", tmp_path, batch_size=8, scheduler="OneCycleLR")
    script = {1: [("scheduler", "OneCycleLR")], 3: [("scheduler", "none"), ("optimizer", "Adagrad")]}
    train(live, 5, script)
    assert type(live.run.run.optimizer).__name__ == "Adagrad"


def failing_once(live, monkeypatch, step):
    """The forward pass of a session fails at a step, once; the session is paused then, and nobody waits."""
    live.session.attended = True
    forward, failures = live.task.forward, [RuntimeError("no memory")]

    def fails(model, batch):
        if live.run.steps_done == step and failures:
            raise failures.pop()
        return forward(model, batch)

    monkeypatch.setattr(live.task, "forward", fails)


def train_through(live, steps, after_failure):
    """Train like `LiveTraining.train`, and turn what is asked for where a step has failed."""
    while live.run.steps_done < steps:
        live.session.step()
        try:
            live.run.step()
        except RuntimeError as error:
            live._step_failed(error, is_trained=False)
            for name, value in after_failure:
                live.session.turn(name, value)
            live.session.paused = False
            continue
        live.session.end_step(live.run.last)


def test_what_is_turned_when_a_step_has_failed_counts_with_what_was_turned_before_it(tmp_path, monkeypatch):
    live = session_of(
        "tiny.py", tmp_path, batch_size=8, scheduler="OneCycleLR", scheduler_kwargs__max_lr=0.05, epochs=4
    )
    failing_once(live, monkeypatch, 3)
    train(live, 3)
    live.session.turn("learning_rate", 0.02)
    train_through(live, 9, [("scheduler", "OneCycleLR")])
    live.end()
    again = retrained(live)
    assert again.run.learning_rate == live.run.run.learning_rate
    assert same_weights(again, live.run)


def test_a_timelines_own_action_fires_once_though_its_step_is_done_again(own_folder, tmp_path, monkeypatch):
    column = "gradient_clip:linear:linear"
    rows = [{"STEP": 0, column: 1.0}, {"STEP": 3, "ACTION": "grow", column: 1.0}]
    live = acting(own_folder, tmp_path, timeline={"keyframes": rows})
    failing_once(live, monkeypatch, 3)
    train_through(live, 6, [])
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


def test_a_disk_that_is_full_is_told_and_what_was_turned_is_recorded_later(tmp_path, monkeypatch, capsys):
    live = session_of("tiny.py", tmp_path, batch_size=8)
    train(live, 2)
    with monkeypatch.context() as full:
        full.setattr("tuner.live.folder.write_atomically", no_space)
        train(live, 1, {2: [("learning_rate", 0.05)]})
    assert "No space left" in capsys.readouterr().err
    assert live.run.run.optimizer.param_groups[0]["lr"] == 0.05
    live.end()
    assert same_weights(retrained(live), live.run)


def no_space(path, content):
    raise OSError(28, "No space left on device")


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


def test_a_loop_with_a_model_leaves_its_weights(tmp_path):
    with Live("x", model=nn.Linear(1, 1), page=False, folder=tmp_path) as live:
        live.step()
    assert (live.folder / "weights.safetensors").is_file()
