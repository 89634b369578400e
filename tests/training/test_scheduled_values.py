"""Values that follow a timeline, against loops that set them by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tuner.errors import SearchSpaceError
from tuner.probe import build_model
from tuner.recipe import Recipe
from tuner.tasks import Batch, Data, Samples, Task
from tuner.training.batches import epoch_order
from tuner.training.plain import PlainRun
from tuner.training.run import Goal

CPU = torch.device("cpu")


class Line(Task):
    """A line through 24 points; remembers what its batches and actions were given."""

    data_options = {"noise": 0.0, "other": 1}
    properties = ("noise",)
    actions = ("mark",)

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def data(self, options):
        x = torch.linspace(-1, 1, 24).reshape(12, 2)
        return Data(train=Samples(x, x.sum(1)), validation=Samples(x + 0.1, x.sum(1)))

    def build_model(self, options):
        return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1), nn.Flatten(0))

    def batch(self, data, index, properties, generator):
        self.seen.append(dict(properties))
        rows = data.rows(index)
        return Batch(rows.inputs + properties["noise"], rows.targets)

    def losses(self, output, batch, state):
        error = output - batch.targets
        return {"mse": error**2, "l1": error.abs() + 0.0 * state["marks"]}

    def state(self):
        return {"marks": torch.zeros(()), "weight": torch.zeros(3, 2)}

    def on_action(self, name, model, state):
        return {"marks": state["marks"] + 1, "weight": model[0].weight.detach().clone()}

    def trace(self, model):
        return {"bias": model[2].bias}


def recipe_with(rows: list[dict[str, Any]], steps: int | None = None, **values: Any) -> Recipe:
    timeline: dict[str, Any] = {"keyframes": rows, **({"steps": steps} if steps else {})}
    base: dict[str, Any] = {"epochs": 4, "batch_size": 4, "optimizer": "SGD", "learning_rate": 0.1}
    return Recipe(**{**base, **values}, timeline=timeline, data={"noise": 0.0, "other": 1}).with_defaults()


def run_of(recipe: Recipe, task: Task | None = None) -> PlainRun:
    task = task or Line()
    return PlainRun(task, task.data(recipe.data), recipe, Goal("val_mse"), ("mse", "l1"), CPU)


def by_hand(recipe: Recipe, optimizer_of, turn, weights=lambda step: (1.0, 1.0), clip=lambda step: None, noise=None):
    """A tutorial's loop; `turn(group, step)` sets a parameter group's values before every step."""
    task = Line()
    data, model = task.data({}), build_model(task, recipe)
    optimizer = optimizer_of(model.parameters())
    step = 0
    for epoch in range(recipe.epochs):
        order = epoch_order(12, recipe.data_seed, epoch)
        for rows in order.split(recipe.batch_size):
            for group in optimizer.param_groups:
                turn(group, step)
            inputs = data.train.inputs[rows] + (noise(step) if noise else 0.0)
            error = model(inputs) - data.train.targets[rows]
            mse, l1 = weights(step)
            optimizer.zero_grad()
            torch.stack([mse * (error**2).mean(), l1 * error.abs().mean()]).sum().backward()
            if clip(step) is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip(step))
            optimizer.step()
            step += 1
    return model


def minjerk(start: float, end: float, t: float) -> float:
    """Flash & Hogan (1985), on t in [0, 1]."""
    t = min(max(t, 0.0), 1.0)
    return start + (end - start) * (10 * t**3 - 15 * t**4 + 6 * t**5)


def assert_same(run: PlainRun, model: nn.Module) -> None:
    while not run.done:
        run.epoch()
    for name, tensor in run.model.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=1e-6, atol=1e-8)


def test_learning_rate_follows_its_keys_and_replaces_the_default_scheduler() -> None:
    recipe = recipe_with([{"STEP": 0, "learning_rate": 0.0}, {"STEP": 8, "learning_rate": 0.4}])
    assert recipe.scheduler is None

    def turn(group, step):
        group["lr"] = minjerk(0.0, 0.4, step / 8)

    run = run_of(recipe)
    assert_same(run, by_hand(recipe, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), turn))
    rates = run.series.array()[:, -1]
    assert rates == pytest.approx([minjerk(0.0, 0.4, step / 8) for step in range(12)], rel=1e-6)


def test_learning_rate_in_log_space_keeps_each_parts_multiplier() -> None:
    rows = [{"STEP": 0, "learning_rate:log:linear": 1e-4}, {"STEP": 12, "learning_rate:log:linear": 1e-1}]
    recipe = recipe_with(rows, lr_multipliers={"0.": 0.5})
    run = run_of(recipe)
    for step in range(3):
        run.step()
        rate = 1e-4 * 1000 ** (step / 12)
        assert [group["lr"] for group in run.optimizer.param_groups] == pytest.approx([rate, 0.5 * rate])


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_weight_decay_and_momentum_are_written_into_the_optimizer(optimizer: str) -> None:
    rows = [
        {"STEP": 0, "weight_decay:linear:linear": 0.0, "momentum:linear:step": 0.5},
        {"STEP": 6, "momentum:linear:step": 0.8},
        {"STEP": 10, "weight_decay:linear:linear": 0.5},
    ]
    recipe = recipe_with(rows, optimizer=optimizer, learning_rate=0.05, scheduler=None, optimizer_kwargs={})

    def turn(group, step):
        group["weight_decay"] = 0.5 * min(step / 10, 1)
        momentum = 0.5 if step < 6 else 0.8
        if optimizer == "SGD":
            group["momentum"] = momentum
        else:
            group["betas"] = (momentum, 0.999)

    start = {"momentum": 0.9} if optimizer == "SGD" else {}
    maker = getattr(torch.optim, optimizer)
    assert_same(run_of(recipe), by_hand(recipe, lambda p: maker(p, lr=0.05, **start), turn))


def test_clip_loss_weights_and_task_properties_follow_too() -> None:
    rows = [
        {"STEP": 0, "gradient_clip": 1e-3, "mse": 0.0, "loss_weights.l1": 1.0, "noise": 0.0},
        {"STEP": 11, "gradient_clip": 1.0, "mse": 1.0, "loss_weights.l1": 0.25, "noise": 0.3},
    ]
    recipe = recipe_with(rows, scheduler=None, gradient_clip=5.0)
    t = [step / 11 for step in range(12)]
    task = Line()
    run = run_of(recipe, task)
    model = by_hand(
        recipe,
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda group, step: None,
        weights=lambda step: (minjerk(0, 1, t[step]), minjerk(1, 0.25, t[step])),
        clip=lambda step: minjerk(1e-3, 1, t[step]),
        noise=lambda step: minjerk(0, 0.3, t[step]),
    )
    assert_same(run, model)
    assert [seen["noise"] for seen in task.seen] == pytest.approx([minjerk(0, 0.3, x) for x in t])
    assert all(seen["other"] == 1 for seen in task.seen)


def test_phases_and_actions_come_at_their_steps() -> None:
    rows = [
        {"STEP": 0, "noise": 0.0},
        {"STEP": 4, "PHASE": "first", "ACTION": "mark"},
        {"STEP": 9, "PHASE": "second", "ACTION": "mark"},
    ]
    task = Line()
    run = run_of(recipe_with(rows), task)
    marks, weights = [], []
    for _ in range(4):
        for _ in range(3):
            weights.append(run.model[0].weight.detach().clone())
            run.step()
            marks.append(int(run.state["marks"]))
        run.epoch()
    assert marks == [0] * 4 + [1] * 5 + [2] * 3
    assert torch.equal(run.state["weight"], weights[9])
    assert [seen["phase"] for seen in task.seen] == [""] * 4 + ["first"] * 5 + ["second"] * 3


def test_a_stretched_timeline_takes_the_runs_length() -> None:
    rows = [{"STEP": 0, "learning_rate:linear:linear": 0.0}, {"STEP": 1000, "learning_rate:linear:linear": 1.0}]
    run = run_of(recipe_with(rows, steps=1000))
    while not run.done:
        run.epoch()
    assert run.series.array()[:, -1] == pytest.approx([step / 12 for step in range(12)])


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_run_cut_anywhere_goes_on_to_the_same_bits(cut: int) -> None:
    rows = [
        {"STEP": 0, "learning_rate": 0.0, "mse": 1.0, "noise": 0.0, "momentum": 0.2},
        {"STEP": 5, "ACTION": "mark", "learning_rate": 0.3},
        {"STEP": 11, "learning_rate": 0.1, "mse": 0.2, "noise": 0.3, "momentum": 0.9},
    ]
    whole, first = run_of(recipe_with(rows)), run_of(recipe_with(rows))
    while not whole.done:
        whole.epoch()
    for step in range(1, cut + 1):
        first.step()
        if step % 3 == 0 and step < cut:
            first.epoch()
    second = run_of(recipe_with(rows))
    second.load_state_dict(first.state_dict())
    while not second.done:
        second.epoch()
    assert [record.values for record in second.records] == [record.values for record in whole.records]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name])
    assert (second.series.array() == whole.series.array()).all()
    assert all((second.trace.arrays()[name] == array).all() for name, array in whole.trace.arrays().items())


def test_traces_are_taken_every_ten_steps() -> None:
    run = run_of(recipe_with([{"STEP": 0, "noise": 0.0}], epochs=10))
    while not run.done:
        run.epoch()
    arrays = run.trace.arrays()
    assert arrays["trace_steps"].tolist() == [10, 20, 30]
    assert arrays["trace.bias"].shape == (3, 1)
    assert math.isclose(arrays["trace.bias"][-1, 0], float(run.model[2].bias.detach()), rel_tol=1e-6)


def test_a_column_that_is_nothing_of_the_recipe_is_named() -> None:
    with pytest.raises(SearchSpaceError, match=r"'nois' cannot follow a timeline. Did you mean 'noise'"):
        run_of(recipe_with([{"STEP": 0, "nois": 0.0}]))
