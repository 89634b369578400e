"""What was turned takes effect at its very step, as in a loop of torch alone; and trains to the same weights again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from live_tasks import retrained, same_weights, session_of, train
from torch import nn

from tuner.errors import UsageError
from tuner.live.replay import Recorded
from tuner.seeds import seed_for
from tuner.training.batches import epoch_order

pytestmark = pytest.mark.usefixtures("own_folder")


def started(path, **settings):
    return session_of("tiny.py", path, **{"batch_size": 8, **settings})


class Reference:
    """The tests' tiny task in a loop of torch alone."""

    def __init__(self, live):
        data = live.run.run.data.train
        self.x, self.y = data.inputs, data.targets
        self.model = fresh_model()

    def batches(self, epoch, size, start=0):
        order = epoch_order(len(self.x), 0, epoch)[start:]
        return [(self.x[part], self.y[part]) for part in order.split(size)]

    def step(self, optimizer, batch, loss=nn.functional.mse_loss, clip=None):
        optimizer.zero_grad()
        loss(self.model(batch[0]).squeeze(1), batch[1]).backward()
        if clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        optimizer.step()

    def is_like(self, run):
        theirs = run.run.weights_now()
        return all(torch.allclose(value, theirs[name], atol=1e-6) for name, value in self.model.state_dict().items())


def fresh_model():
    torch.manual_seed(seed_for("weights", 0))
    return nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.Tanh(), nn.Dropout(0.0), nn.Linear(4, 1))


def test_rate_decay_clip_and_loss_of_the_very_next_step(tmp_path):
    live = started(tmp_path)
    script = {
        1: [("learning_rate", 0.05)],
        2: [("optimizer_kwargs.weight_decay", 0.1), ("optimizer_kwargs.momentum", 0.5)],
        3: [("gradient_clip", 0.1), ("loss", "l1")],
    }
    train(live, 4, script)
    other = Reference(live)
    optimizer = torch.optim.Adam(other.model.parameters(), lr=2e-3)
    group = optimizer.param_groups[0]
    first, second, third, fourth = other.batches(0, 8)
    other.step(optimizer, first)
    group["lr"] = 0.05
    other.step(optimizer, second)
    group["weight_decay"], group["betas"] = 0.1, (0.5, 0.999)
    other.step(optimizer, third)
    other.step(optimizer, fourth, nn.functional.l1_loss, clip=0.1)
    assert other.is_like(live.run)


def test_another_optimizer_keeps_the_weights_and_begins_fresh(tmp_path):
    live = started(tmp_path)
    train(live, 4, {2: [("optimizer", "SGD"), ("learning_rate", 0.01)]})
    other = Reference(live)
    adam = torch.optim.Adam(other.model.parameters(), lr=2e-3)
    batches = other.batches(0, 8)
    for batch in batches[:2]:
        other.step(adam, batch)
    sgd = torch.optim.SGD(other.model.parameters(), lr=0.01, momentum=0.9)
    for batch in batches[2:]:
        other.step(sgd, batch)
    assert other.is_like(live.run)


def test_another_loss_leaves_the_optimizer_as_it_is(tmp_path):
    live = started(tmp_path)
    train(live, 2)
    before = live.run.run.optimizer
    moments = [state["exp_avg"].clone() for state in before.state.values()]
    live.session.desk.turn("loss", "l1")
    live.session.step()
    assert live.run.run.optimizer is before
    assert all(torch.equal(a, state["exp_avg"]) for a, state in zip(moments, before.state.values(), strict=True))
    assert live.run.run.loss == "l1"


def test_a_weight_that_is_turned_makes_the_loss_weighted(tmp_path):
    live = started(tmp_path)
    train(live, 2, {0: [("loss", "mse")], 1: [("loss_weights.l1", 0.25)]})
    assert live.session.values["loss"] == "weighted"
    assert live.run.run.loss is None
    assert live.run.run.weights == {"mse": 1.0, "l1": 0.25}


def test_batches_of_another_size_go_on_with_the_rest_of_the_epoch(tmp_path):
    live = started(tmp_path, optimizer="SGD", learning_rate=0.01)
    train(live, 5, {1: [("batch_size", 16)]})
    other = Reference(live)
    sgd = torch.optim.SGD(other.model.parameters(), lr=0.01, momentum=0.9)
    batches = [*other.batches(0, 8)[:1], *other.batches(0, 16, start=8), *other.batches(1, 16)]
    assert [len(y) for _, y in batches] == [8, 16, 8, 16, 16]
    for batch in batches:
        other.step(sgd, batch)
    assert other.is_like(live.run)
    assert live.run.run.epochs_done == 2


def test_reset_begins_anew_with_the_controls_as_they_stand(tmp_path):
    live = started(tmp_path)
    train(live, 5, {1: [("learning_rate", 0.05)], 3: [("reset",)]})
    other = Reference(live)
    adam = torch.optim.Adam(other.model.parameters(), lr=0.05)
    for batch in other.batches(0, 8)[:2]:
        other.step(adam, batch)
    assert other.is_like(live.run)
    assert (live.run.steps_done, live.run.run.steps_done) == (5, 2)


def test_undo_gives_back_the_value_and_not_the_weights(tmp_path):
    live = started(tmp_path)
    train(live, 3, {1: [("learning_rate", 0.05)]})
    before = live.run.run.weights_now()
    live.session.desk.press("undo")
    live.session.step()
    assert live.run.run.optimizer.param_groups[0]["lr"] == 2e-3
    after = live.run.run.weights_now()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert live.session.changes[-1].undoes


def test_undoing_an_optimizer_gives_its_momentum_back(tmp_path):
    live = started(tmp_path)
    script = {1: [("optimizer_kwargs.momentum", 0.5)], 2: [("optimizer", "RMSprop")], 3: [("undo",)]}
    train(live, 4, script)
    assert type(live.run.run.optimizer).__name__ == "Adam"
    assert live.run.run.optimizer.param_groups[0]["betas"] == (0.5, 0.999)
    with pytest.raises(UsageError, match="nothing was turned"):
        live.session.undo(), live.session.undo(), live.session.undo()


def test_momentum_of_an_rmsprop_that_began_without(tmp_path):
    live = started(tmp_path, optimizer="RMSprop", learning_rate=0.01)
    train(live, 4, {2: [("optimizer_kwargs.momentum", 0.9)]})
    assert all("momentum_buffer" in state for state in live.run.run.optimizer.state.values())


def test_a_scheduler_goes_over_the_epochs_from_where_it_is_switched_on(tmp_path):
    live = started(tmp_path, epochs=2)
    rates = []
    script = {2: [("scheduler", "CosineAnnealingLR")], 6: [("learning_rate", 4e-3)], 10: [("scheduler", "none")]}
    for _ in range(12):
        train(live, 1, script)
        rates.append(live.run.run._rate)
    still = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=2e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(still, T_max=2)
    still.step()
    cosine.step()
    assert rates[:4] == [2e-3] * 4  # the cosine steps at an epoch's end, the first of which is after four steps
    assert rates[4:6] == pytest.approx([still.param_groups[0]["lr"]] * 2)
    assert rates[6:8] == pytest.approx([2 * still.param_groups[0]["lr"]] * 2)
    assert rates[10:] == [4e-3] * 2


def test_numbers_of_a_users_task_appear_and_are_read_at_the_next_step(own_folder, tmp_path):
    (own_folder / "noisy.py").write_text(
        "import torch\nfrom tiny import Tiny\nfrom tuner.tasks import Batch\n\n\n"
        "class Noisy(Tiny):\n"
        "    data_options = {'samples': 64, 'noise': 0.5, 'level': 20}\n"
        "    properties = ('noise', 'level')\n"
        "    ranges = {'level': (10, 30)}\n"
        "    seen = []\n\n"
        "    def batch(self, data, index, properties, generator):\n"
        "        self.seen.append((properties['noise'], properties['level']))\n"
        "        return data.rows(index)\n"
    )
    live = session_of("noisy.py", tmp_path, batch_size=8)
    found = {control.name: (control.low, control.high) for control in live.controls}
    assert found["data.noise"] == (0, 1)
    assert found["data.level"] == (10, 30)
    train(live, 3, {1: [("data.noise", 0.25)], 2: [("data.level", 12)]})
    assert live.task.seen == [(0.5, 20), (0.25, 20), (0.25, 12)]


def test_what_a_timeline_moves_is_followed_until_it_is_turned(tmp_path):
    column = "learning_rate:linear:linear"
    rows = [{"STEP": 0, column: 0.01}, {"STEP": 10, column: 0.02}]
    live = started(tmp_path, timeline={"keyframes": rows})
    rates = []
    for _ in range(6):
        train(live, 1, {4: [("learning_rate", 0.05)]})
        rates.append(live.run.run.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.01, 0.011, 0.012, 0.013, 0.05, 0.05])
    assert live.session.changes[-1].before == pytest.approx(0.014)
    live.end()
    assert same_weights(retrained(live), live.run)


def test_a_setting_that_torch_refuses_changes_nothing(tmp_path):
    live = started(tmp_path, scheduler="OneCycleLR")
    train(live, 3, {1: [("scheduler", "OneCycleLR")], 2: [("optimizer", "Adagrad")]})
    assert type(live.run.run.optimizer).__name__ == "Adam"
    assert live.session.values["optimizer"] == "Adam"
    live.end()
    assert "Adagrad" not in (live.folder.path / "timeline.csv").read_text()


turns = st.one_of(
    st.tuples(st.just("learning_rate"), st.floats(1e-5, 0.1)),
    st.tuples(st.just("optimizer"), st.sampled_from(["Adam", "SGD", "AdamW", "RMSprop", "Adagrad"])),
    st.tuples(st.just("optimizer_kwargs.weight_decay"), st.floats(0, 0.1)),
    st.tuples(st.just("optimizer_kwargs.momentum"), st.floats(0, 0.99)),
    st.tuples(st.just("optimizer_kwargs.beta2"), st.floats(0.5, 0.9999)),
    st.tuples(st.just("gradient_clip"), st.sampled_from([0.0, 0.1, 1.0])),
    st.tuples(st.just("loss"), st.sampled_from(["mse", "l1", "weighted"])),
    st.tuples(st.just("loss_weights.l1"), st.floats(0, 2)),
    st.tuples(st.just("scheduler"), st.sampled_from(["none", "CosineAnnealingLR", "ExponentialLR"])),
    st.tuples(st.just("batch_size"), st.integers(1, 32)),
    st.tuples(st.sampled_from(["reset", "undo", "save", "restore"])),
)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 29), turns), max_size=14))
def test_whatever_was_turned_trains_to_the_same_weights_again(tmp_path_factory, asked):
    script: dict[int, list[tuple]] = {}
    for step, turn in asked:
        script.setdefault(step, []).append(turn)
    folder = tmp_path_factory.mktemp("studies")
    more = {"model__dropout": 0.3, "scheduler_kwargs__gamma": 0.7}
    live = session_of("tiny.py", folder, batch_size=8, scheduler="ExponentialLR", **more)
    live.session.pace.may_snapshot = lambda turning: True
    train(live, 30, script)
    live.end()
    assert same_weights(retrained(live), live.run)
    assert Recorded(live.folder.path, None, "--timeline").values() == live.session.values


@pytest.mark.parametrize("paused", [False, True])
def test_turns_during_a_pause_are_trained_again_exactly(tmp_path, paused):
    live = started(tmp_path, scheduler="ExponentialLR", scheduler_kwargs__gamma=0.7)
    train(live, 3)
    for _ in range(6):
        if paused:
            live.session.desk.press("pause")
            live.session.press(live.session.desk.take()[0])
        for wish in [("learning_rate", 0.01), ("scheduler", "ExponentialLR"), ("reset",), ("learning_rate", 0.02)]:
            if len(wish) > 1:
                live.session.turn(*wish)
            else:
                live.session.act(wish[0])
        live.session.turn("optimizer", "SGD" if live.session.values["optimizer"] == "Adam" else "Adam")
        live.session.paused = False
        train(live, 3)
    live.end()
    assert same_weights(retrained(live), live.run)
