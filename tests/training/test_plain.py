"""A plain run against hand-written torch loops, and against itself cut in two."""

from __future__ import annotations

import copy
import importlib.util
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from resuming import disturb, outcome, same_bits, trained_in_pieces
from torch import nn

from tuner.errors import SearchSpaceError
from tuner.probe import build_model, probe_task
from tuner.recipe import Recipe
from tuner.tasks import Batch, Data, Task
from tuner.training.batches import epoch_order
from tuner.training.checkpoints import load_checkpoint, save_checkpoint, storable
from tuner.training.plain import PlainRun
from tuner.training.run import Goal
from tuner.training.trainer import train

CPU = torch.device("cpu")


def tiny() -> Task:
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "files" / "tiny.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Tiny()


def recipe(**values: object) -> Recipe:
    base = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "loss": "mse", "scheduler": None}
    model = {"hidden": 4, "fault": "none", "dropout": 0.0, "norm": False, **values.pop("model", {})}  # type: ignore[dict-item]
    return Recipe(**{**base, **values, "model": model, "data": {"samples": 64}}).with_defaults()  # type: ignore[arg-type]


def run_of(recipe: Recipe, goal: Goal | None = None, task: Task | None = None) -> PlainRun:
    task = task or tiny()
    return PlainRun(task, task.data(recipe.data), recipe, goal or Goal("val_mse"), ("mse", "l1"), CPU)


def by_hand(recipe: Recipe, optimizer_of, scheduler_of=None, clip=None) -> nn.Module:
    """What a tutorial's loop gives for the same weights and the same order of samples."""
    task = tiny()
    data, model = task.data(recipe.data), build_model(task, recipe)
    optimizer = optimizer_of(model.parameters())
    scheduler = scheduler_of(optimizer) if scheduler_of else None
    for epoch in range(recipe.epochs):
        model.train()
        order = epoch_order(len(data.train), recipe.data_seed, epoch)
        for start in range(0, len(order), recipe.batch_size):
            rows = order[start : start + recipe.batch_size]
            loss = ((model(data.train.inputs[rows]).squeeze(1) - data.train.targets[rows]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
        if scheduler:
            scheduler.step()
    return model


def assert_same(run: PlainRun, model: nn.Module) -> None:
    for (name, ours), theirs in zip(run.model.state_dict().items(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    ("name", "kwargs", "rate"),
    [
        ("Adam", {}, 1e-3),
        ("AdamW", {"weight_decay": 0.1, "betas": (0.8, 0.9)}, 1e-3),
        ("SGD", {"momentum": 0.9}, 1e-2),
        ("RMSprop", {"alpha": 0.9}, 1e-2),
        ("Adagrad", {}, 1e-2),
        ("NAdam", {}, 2e-3),
    ],
)
def test_weights_equal_a_tutorials_loop(name: str, kwargs: dict, rate: float) -> None:
    """At the optimizer's own default learning rate."""
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in kwargs.items()}
    if name == "SGD":
        given = {}
    ours = recipe(optimizer=name, optimizer_kwargs=given, learning_rate=None)
    run = run_of(ours)
    train(run)
    assert_same(run, by_hand(ours, lambda p: getattr(torch.optim, name)(p, lr=rate, **kwargs)))


def test_default_scheduler_is_cosine_over_the_run_to_zero() -> None:
    ours = recipe(epochs=5, scheduler="CosineAnnealingLR")
    run = run_of(ours)
    result = train(run)
    hand = by_hand(
        ours,
        lambda p: torch.optim.Adam(p, lr=0.05),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=5, eta_min=0),
    )
    assert_same(run, hand)
    rates = [record.learning_rate for record in result.records]
    assert rates == pytest.approx([0.025 * (1 + math.cos(math.pi * k / 5)) for k in range(5)])


def test_scheduler_by_step_runs_over_all_steps() -> None:
    configs = {"interval": "step", "frequency": 1, "monitor": "val_loss"}
    run = run_of(recipe(epochs=2, scheduler="CosineAnnealingLR", scheduler_configs=configs))
    train(run)
    rates = run.series.array()[:, -1]
    expected = [0.025 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    assert rates.tolist() == pytest.approx(expected, rel=1e-5)


def test_gradient_clip_equals_torchs() -> None:
    ours = recipe(gradient_clip=0.1, optimizer="SGD", optimizer_kwargs={"momentum": 0.0})
    run = run_of(ours)
    train(run)
    assert_same(run, by_hand(ours, lambda p: torch.optim.SGD(p, lr=0.05), clip=0.1))


def test_gradient_norm_is_the_norm_before_clipping() -> None:
    clipped, free = (
        run_of(recipe(epochs=1, batch_size=32, gradient_clip=clip, optimizer="SGD")) for clip in (1e-9, None)
    )
    assert train(clipped).records[0].gradient_norm == train(free).records[0].gradient_norm > 0


def test_lr_multipliers_make_parameter_groups() -> None:
    ours = recipe(optimizer="SGD", optimizer_kwargs={"momentum": 0.0}, lr_multipliers={"4.": 0.0, "0.weight": 0.5})
    run = run_of(ours)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    train(run)
    after = run.model.state_dict()
    assert torch.equal(before["4.weight"], after["4.weight"])
    assert not torch.equal(before["0.weight"], after["0.weight"])
    assert run.learning_rate == 0.05


def test_a_multiplier_that_matches_nothing_lists_the_names() -> None:
    with pytest.raises(SearchSpaceError, match=r"0\.weight"):
        run_of(recipe(lr_multipliers={"recurrence": 0.5}))


def test_lbfgs_trains_through_its_closure() -> None:
    run = run_of(recipe(optimizer="LBFGS", learning_rate=0.5, batch_size=32, epochs=8))
    result = train(run)
    assert result.records[-1].train_loss < 0.2 * result.records[0].train_loss
    assert len(run.series.array()) == 8


def test_loss_weights_weigh_terms_and_leave_them_recorded() -> None:
    both = run_of(recipe(epochs=1, loss=None, loss_weights={"mse": 2.0, "l1": 0.5}))
    values = train(both).records[0].values
    assert values["train_loss"] == pytest.approx(2.0 * values["train_mse"] + 0.5 * values["train_l1"])
    assert values["val_loss"] == pytest.approx(2.0 * values["val_mse"] + 0.5 * values["val_l1"])
    plain = run_of(recipe(epochs=1, loss=None))
    values = train(plain).records[0].values
    assert values["train_loss"] == pytest.approx(values["train_mse"] + values["train_l1"])


def test_validation_is_the_mean_over_all_samples() -> None:
    run = run_of(recipe(epochs=1, batch_size=3))
    record = train(run).records[0]
    data = run.data.validation
    run.model.eval()
    with torch.no_grad():
        error = run.model(data.inputs).squeeze(1) - data.targets  # type: ignore[union-attr]
    assert record.values["val_mse"] == pytest.approx((error**2).mean().item(), rel=1e-5)
    assert record.values["val_close"] == pytest.approx((error.abs() < 0.5).float().mean().item())


def test_series_holds_every_step() -> None:
    run = run_of(recipe(epochs=2))
    result = train(run)
    series = run.series.array()
    assert run.series.columns == ("mse", "l1", "loss", "learning_rate")
    assert series.shape == (8, 4)
    assert series[:4, 0].mean() == pytest.approx(result.records[0].values["train_mse"], rel=1e-5)


def test_early_stopping_stops_after_patience_and_restores_the_best() -> None:
    stopping = {"monitor": "val_loss", "patience": 2, "min_delta": 1000.0}
    run = run_of(recipe(epochs=20, early_stopping=stopping), Goal("val_mse", value="last"))
    first = None
    while not run.done:
        run.epoch()
        first = first or {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    result = run.result()
    assert result.epochs_done == 3
    assert result.reason == "early stopping at epoch 3"
    assert result.value_epoch == 1
    assert result.value == result.records[0].values["val_mse"]
    assert first is not None
    assert all(torch.equal(first[name], tensor) for name, tensor in run.kept_weights().items())


def test_value_is_the_best_epochs_metric_and_its_weights_are_kept() -> None:
    run = run_of(recipe(epochs=6, learning_rate=0.3), Goal("val_mse"))
    result = train(run)
    values = [record.values["val_mse"] for record in result.records]
    assert result.value == min(values)
    assert result.value_epoch == values.index(min(values)) + 1
    run.model.load_state_dict(run.kept_weights())
    assert run._validate()["val_mse"] == pytest.approx(result.value, rel=1e-6)


def test_summary_holds_losses_and_gap() -> None:
    result = train(run_of(recipe(epochs=4)))
    summary, last = result.summary(), result.records[-1]
    assert summary["gap"] == last.val_loss - last.train_loss
    assert summary["best_val_loss"] == min(record.val_loss for record in result.records)
    assert (summary["epochs_done"], summary["epochs_asked"]) == (4, 4)


def test_plateau_lowers_the_rate_and_says_so() -> None:
    plateau = {"factor": 0.5, "patience": 0, "threshold": 1000.0, "threshold_mode": "abs"}
    run = run_of(recipe(epochs=4, scheduler="ReduceLROnPlateau", scheduler_kwargs=plateau))
    result = train(run)
    notes = [note for record in result.records for note in record.notes]
    assert len(notes) == 3
    assert notes[0] == "epoch 2: val_loss is on a plateau, learning rate 0.05 -> 0.025"


def test_plateau_on_an_accuracy_maximizes_it() -> None:
    configs = {"interval": "epoch", "frequency": 1, "monitor": "val_close"}
    ours = recipe(scheduler="ReduceLROnPlateau", scheduler_kwargs={}, scheduler_configs=configs)
    assert run_of(ours, Goal("val_close", maximize=True)).stepper.scheduler.mode == "max"


def test_nan_ends_the_run_as_diverged() -> None:
    result = train(run_of(recipe(model={"fault": "nan"})))
    assert result.diverged
    assert result.value is None
    assert result.epochs_done == 1
    assert result.reason == "diverged at epoch 1: train_loss is nan"


@pytest.mark.parametrize("steps", [0, 3, 4, 7])
@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_a_run_cut_in_two_equals_one_that_was_not(steps: int, optimizer: str) -> None:
    """Bit for bit, whether cut between epochs or within one: BatchNorm, dropout, plateau, early stopping."""
    ours = recipe(
        epochs=4,
        optimizer=optimizer,
        scheduler="ReduceLROnPlateau",
        scheduler_kwargs={"patience": 0},
        early_stopping={"monitor": "val_loss", "patience": 3},
        model={"dropout": 0.3, "norm": True},
    )
    whole, first, second = run_of(ours), run_of(ours), run_of(ours)
    train(whole)
    for step in range(steps):
        first.step() if (step + 1) % first.steps_per_epoch else first.epoch()
    second.load_state_dict(first.state_dict())
    train(second)
    assert_same(second, whole.model)
    assert [record.values for record in second.records] == [record.values for record in whole.records]
    assert (second.series.array() == whole.series.array()).all()
    assert all(torch.equal(second.kept_weights()[name], tensor) for name, tensor in whole.kept_weights().items())


def test_runs_in_turn_do_not_touch_each_other() -> None:
    """Two runs trained epoch by epoch in turn give what each gives alone, dropout and all."""
    one, two = recipe(model={"dropout": 0.5}), recipe(model={"dropout": 0.2}, seed=3, data_seed=5, dropout_seed=7)
    alone = [run_of(one), run_of(two)]
    for run in alone:
        train(run)
    together = [run_of(one), run_of(two)]
    while not all(run.done for run in together):
        for run in together:
            run.epoch()
    for ours, theirs in zip(together, alone, strict=True):
        assert_same(ours, theirs.model)


@pytest.mark.parametrize("seed", ["seed", "data_seed", "dropout_seed"])
def test_each_seed_matters_by_itself(seed: str) -> None:
    model = {"dropout": 0.5}
    first, second, again = (run_of(recipe(model=model, **{seed: value})) for value in (0, 1, 0))
    for run in (first, second, again):
        train(run)
    assert_same(again, first.model)
    assert not torch.equal(first.model[0].weight, second.model[0].weight)


def test_training_leaves_the_users_generator_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    run = run_of(recipe(model={"dropout": 0.5}))
    train(run)
    assert torch.equal(torch.rand(3), expected)


class Rows(torch.utils.data.Dataset):
    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs[index], self.targets[index]


def test_a_torch_dataset_gives_what_tensors_give() -> None:
    class Loaded(type(tiny())):  # type: ignore[misc]
        def data(self, options):
            data = super().data(options)
            return Data(*(Rows(part.inputs, part.targets) for part in (data.train, data.validation)))

    through_loader, from_tensors = run_of(recipe(), task=Loaded()), run_of(recipe())
    assert train(through_loader).records[-1].values == train(from_tensors).records[-1].values
    assert_same(through_loader, from_tensors.model)


def test_probe_names_what_is_recorded() -> None:
    probe = probe_task(tiny(), recipe())
    assert probe.terms == ("mse", "l1")
    assert set(probe.recorded) == {
        f"{part}_{name}" for part in ("train", "val") for name in ("loss", "mse", "l1", "close")
    }
    assert set(train(run_of(recipe(epochs=1))).records[0].values) == set(probe.recorded)


class Tied(nn.Module):
    """Tied weights, a buffer outside the state_dict, one that grows, one that is tied, and one there only later."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.out = nn.Linear(3, 1)
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.register_buffer("history", torch.zeros(0))
        self.register_buffer("last", None)
        self.out.register_buffer("twin", self.seen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += 1
            self.history = torch.cat([self.history, self.seen.reshape(1)])
            self.last = x.detach().mean(0)
        drawn = torch.rand(()) + float(np.random.rand()) + random.random()
        scale = 1 + 0.01 * (self.seen + self.out.twin) + 0.1 * self.history.sum().tanh() + 0.01 * drawn
        hidden = self.second(torch.tanh(self.first(x))) * scale
        return self.out(hidden if self.last is None else hidden + self.last).squeeze(1)


class Restless(type(tiny())):  # type: ignore[misc]
    """Draws from every generator wherever a task's code is called; has state, actions, a trace and properties."""

    data_options: ClassVar = {"samples": 64, "noise": 0.1}
    properties = ("noise",)
    actions = ("anchor", "freeze")

    def build_model(self, options):
        return Tied()

    def batch(self, data, index, properties, generator):
        rows = data.rows(index)
        return Batch(rows.inputs + properties["noise"] * drawn(rows.inputs.shape), rows.targets)

    def forward(self, model, batch):
        return model(batch.inputs) + 0.01 * drawn((len(batch),))

    def predict(self, model, inputs):
        return model(inputs) + 0.01 * drawn((len(inputs),))

    def losses(self, output, batch, state):
        error = output - batch.targets - state["offset"]
        return {"mse": error**2, "l1": error.abs() + 0.0 * state["anchor"].sum() + 0.001 * state["anchor"].mean()}

    def state(self):
        return {"anchor": torch.zeros(3, 3), "offset": 0.1 * drawn(())}

    def on_action(self, name, model, state):
        if name == "freeze":
            model.first.bias.requires_grad_(False)
            return {"offset": state["offset"] + 0.1 * drawn(())}
        return {"anchor": model.first.weight}

    def trace(self, model):
        return {"bias": model.out.bias + drawn((1,))}


def drawn(shape: tuple[int, ...]) -> torch.Tensor:
    """Noise from torch, NumPy and Python at once."""
    return torch.randn(shape) + float(np.random.standard_normal()) + random.gauss(0, 1)


def restless(**values: object) -> PlainRun:
    rows = [
        {"STEP": 0, "learning_rate": 0.05, "mse": 1.0, "l1": 0.5, "noise": 0.1, "PHASE": "one"},
        {"STEP": 3, "ACTION": "anchor"},
        {"STEP": 9, "ACTION": "freeze; anchor", "PHASE": "two"},
        {"STEP": 15, "learning_rate": 0.001, "mse": 0.0, "l1": 1.0, "noise": 0.3},
    ]
    base = {"epochs": 4, "batch_size": 8, "gradient_clip": 1.0, "timeline": {"keyframes": rows}}
    ours = Recipe(**{**base, **values}, data={"samples": 64, "noise": 0.1}).with_defaults()  # type: ignore[arg-type]
    return run_of(ours, Goal("val_close", maximize=True), Restless())


@pytest.mark.parametrize("optimizer", ["AdamW", "LBFGS"])
def test_a_run_that_draws_everywhere_equals_itself_ended_after_every_step(optimizer: str, tmp_path: Path) -> None:
    """State, actions, traces, timelines, tied weights, buffers of all kinds, frozen parameters, all generators."""
    whole = restless(optimizer=optimizer)
    train(whole)
    assert len(whole.records) == 4
    assert set(whole.trace.arrays()) == {"trace_steps", "trace.bias"}
    assert not whole.model.first.bias.requires_grad
    assert len(whole.model.history) >= 16
    pieces = trained_in_pieces(lambda: restless(optimizer=optimizer), tmp_path)
    assert same_bits(outcome(pieces), outcome(whole))
    assert same_bits(dict(pieces.model.named_buffers()), dict(whole.model.named_buffers()))
    assert not pieces.model.first.bias.requires_grad


def test_what_happens_between_the_steps_of_a_run_changes_nothing() -> None:
    whole, disturbed = restless(), restless()
    train(whole)
    for number in range(4):
        while not disturbed.epoch_is_trained:
            drawn((number,))
            disturbed.step()
        disturb(number)
        disturbed.epoch()
    assert same_bits(outcome(disturbed), outcome(whole))


def test_a_state_is_a_copy_that_may_be_loaded_again() -> None:
    run = restless()
    run.step()
    state = run.state_dict()
    before = copy.deepcopy(state)
    train(run)
    assert same_bits(state, before)
    first, second = restless(), restless()
    for other in (first, second):
        other.load_state_dict(state)
        train(other)
    assert same_bits(outcome(first), outcome(run))
    assert same_bits(outcome(second), outcome(run))
    assert same_bits(state, before)


@pytest.mark.parametrize("goal", [Goal("val_mse"), Goal("val_mse", value="last")])
def test_early_stopping_and_a_plateau_go_on_from_a_file(goal: Goal, tmp_path: Path) -> None:
    ours = recipe(
        epochs=8,
        learning_rate=0.4,
        scheduler="ReduceLROnPlateau",
        scheduler_kwargs={"patience": 0, "threshold": 0.3},
        early_stopping={"monitor": "val_loss", "patience": 2, "min_delta": 0.001},
        model={"dropout": 0.3, "norm": True},
    )
    whole = run_of(ours, goal)
    train(whole)
    assert any(record.notes for record in whole.records)
    pieces = trained_in_pieces(lambda: run_of(ours, goal), tmp_path)
    assert same_bits(outcome(pieces), outcome(whole))
    assert isinstance(pieces.records[-1].notes, tuple)


def test_a_diverged_run_comes_back_as_one(tmp_path: Path) -> None:
    broken = recipe(model={"fault": "nan"})
    pieces = trained_in_pieces(lambda: run_of(broken), tmp_path)
    assert pieces.done
    assert pieces.result().reason == "diverged at epoch 1: train_loss is nan"


FRESH = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
import torch
torch.set_num_threads(1)
from resuming import outcome
from test_plain import restless
from tuner.training.checkpoints import load_checkpoint, save_checkpoint
from tuner.training.trainer import train
run = restless()
run.load_state_dict(load_checkpoint(Path({before!r}))[5])
train(run)
save_checkpoint(Path({after!r}), {{5: outcome(run)}})
"""


def test_another_process_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, cut = restless(), restless()
    train(whole)
    cut.epoch()
    cut.step()
    before, after, here = tmp_path / "before", tmp_path / "after", Path(__file__).parent
    save_checkpoint(before, {5: cut.state_dict()})
    paths = [str(here), str(here.parent)]
    code = FRESH.format(paths=paths, before=str(before), after=str(after))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = tmp_path / "expected"
    save_checkpoint(expected, {5: outcome(whole)})
    assert same_bits(load_checkpoint(after), load_checkpoint(expected))


class Augmented(Rows):
    """Samples changed at random by torch, NumPy and Python."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs[index] + 0.1 * drawn((3,)), self.targets[index]


class Whole(Augmented):
    """Gives a batch at once, drawing in another order."""

    def __getitems__(self, index: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        shift = drawn((1,))
        return [(self.inputs[i] + shift, self.targets[i]) for i in index]


def augmented(rows: type[Rows], workers: int) -> PlainRun:
    class Loaded(type(tiny())):  # type: ignore[misc]
        data_options: ClassVar = {"samples": 64, "num_workers": 0}

        def data(self, options):
            data = super().data(options)
            return Data(*(rows(part.inputs, part.targets) for part in (data.train, data.validation)))

    ours = recipe(model={"dropout": 0.5}).model_copy(update={"data": {"samples": 64, "num_workers": workers}})
    return run_of(ours, task=Loaded())


@pytest.mark.parametrize("rows", [Augmented, Whole])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_that_draws_gives_the_same_at_every_cut_and_with_any_workers(
    rows: type[Rows], workers: int, tmp_path: Path
) -> None:
    whole = augmented(rows, 0)
    train(whole)
    pieces = trained_in_pieces(lambda: augmented(rows, workers), tmp_path, every=5 if workers else 1)
    assert same_bits(outcome(pieces), outcome(whole))
    assert whole.records[0].values != whole.records[1].values


@pytest.mark.parametrize("start", [restless, lambda: augmented(Augmented, 2)], ids=["restless", "dataset"])
def test_an_epoch_leaves_all_global_generators_alone(start: Callable[[], PlainRun]) -> None:
    def three() -> list[float]:
        return [float(torch.rand(())), float(np.random.rand()), random.random()]

    disturb(11)
    expected = three()
    disturb(11)
    run = start()
    run.epoch()
    assert three() == expected


def test_no_gradient_outlives_its_epoch() -> None:
    run = run_of(recipe())
    run.epoch()
    assert all(parameter.grad is None for parameter in run.model.parameters())


def test_a_models_own_extra_state_is_named_where_it_cannot_be_stored() -> None:
    class Counting(nn.Linear):
        def get_extra_state(self) -> object:
            return object()

    run = run_of(recipe())
    run.model.append(Counting(1, 1))
    assert storable(run.state_dict()) == "model.weights.5._extra_state"
