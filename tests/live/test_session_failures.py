"""What fails in the middle of a session leaves it going on, and its record true."""

from __future__ import annotations

import pytest
import torch
from live_tasks import acting, retrained, same_weights, session_of, train

pytestmark = pytest.mark.usefixtures("own_folder")


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
