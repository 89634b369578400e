"""Schedulers in the middle of a session: over other optimizers, batches of another size, and begun anew."""

from __future__ import annotations

import pytest
from live_tasks import retrained, same_weights, session_of, train

pytestmark = pytest.mark.usefixtures("own_folder")


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
