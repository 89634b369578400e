"""Every optimizer of torch trains here as in a hand-written loop: plain, in groups, on two terms, clipped."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from resuming import outcome, same_bits, trained_in_pieces
from torch import Tensor, nn

from tuner import optimizers
from tuner.errors import SearchSpaceError, UsageError
from tuner.recipe import LEARNING_RATES, OPTIMIZER_KWARGS, Recipe
from tuner.tasks import Batch, Data, Samples, Task
from tuner.training.batches import epoch_order
from tuner.training.plain import PlainRun
from tuner.training.run import Goal
from tuner.training.trainer import Trainer, train

CPU = torch.device("cpu")
EPOCHS, BATCH, SAMPLES = 4, 8, 40
"""20 steps."""

WEIGHTS = {"mse": 2.0, "l1": 0.5}
NAMES = sorted(optimizers.names())

RATES = {"LBFGS": {"learning_rate": 0.1}}
"""At torch's own rate of 1, LBFGS diverges on batches this small."""


class Regression(Task):
    """Numbers from features: what its model is made of is left to those below."""

    model_options: ClassVar[Mapping[str, Any]] = {}

    def data(self, options: Mapping[str, Any]) -> Data:
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(2 * SAMPLES, 4, generator=generator)
        y = (x @ torch.tensor([1.0, -2.0, 0.5, 0.0])).tanh() + 0.1 * torch.randn(2 * SAMPLES, generator=generator)
        return Data(Samples(x[:SAMPLES], y[:SAMPLES]), Samples(x[SAMPLES:], y[SAMPLES:]))

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 1), nn.Flatten(0))

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        error = output - batch.targets
        return {"mse": error**2, "l1": error.abs()}


class Matrices(Regression):
    """Every parameter a matrix, for Muon."""

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        layers = [nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Identity(), nn.Linear(6, 1, bias=False)]
        return nn.Sequential(*layers, nn.Flatten(0))


class Halves(Regression):
    """A model of bfloat16 numbers."""

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0)).to(torch.bfloat16)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(batch.inputs.bfloat16())

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model(inputs.bfloat16())


class Tables(nn.Module):
    """The product of two embedded numbers, whose gradients are sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Embedding(5, 3, sparse=True)
        self.third = nn.Embedding(5, 3, sparse=True)

    def forward(self, pairs: Tensor) -> Tensor:
        return (self.first(pairs[:, 0]) * self.third(pairs[:, 1])).sum(1)


class Ratings(Regression):
    """Numbers from pairs of categories, for SparseAdam."""

    def data(self, options: Mapping[str, Any]) -> Data:
        generator = torch.Generator().manual_seed(3)
        pairs = torch.randint(5, (2 * SAMPLES, 2), generator=generator)
        y = torch.randn(5, 5, generator=generator)[pairs[:, 0], pairs[:, 1]]
        return Data(Samples(pairs[:SAMPLES], y[:SAMPLES]), Samples(pairs[SAMPLES:], y[SAMPLES:]))

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        return Tables()


def task_for(name: str) -> tuple[Task, str]:
    """A task that the optimizer can train, and the substring of one part of its model."""
    if name == "SparseAdam":
        return Ratings(), "third"
    return (Matrices() if name == "Muon" else Regression()), "3."


def started(name: str, **values: Any) -> PlainRun:
    task, _ = task_for(name)
    fields = {"epochs": EPOCHS, "batch_size": BATCH, "scheduler": None, "loss": "mse", **RATES.get(name, {}), **values}
    recipe = Recipe(optimizer=name, **fields).with_defaults()
    return Trainer(task, Goal("val_mse"), ("mse", "l1"), CPU).start(recipe)


def learning_rate(name: str) -> float:
    """As the docs have it: 0.001 for Adam and AdamW, 0.01 for SGD, RMSprop and Adagrad, torch's own else."""
    table = {"Adam": 1e-3, "AdamW": 1e-3, "SGD": 1e-2, "RMSprop": 1e-2, "Adagrad": 1e-2}
    return table.get(name, float(inspect.signature(getattr(torch.optim, name)).parameters["lr"].default))


def by_hand(
    name: str,
    model: nn.Module,
    loss_of: Callable[[Tensor, Tensor], Tensor] = nn.functional.mse_loss,
    factors: Mapping[str, float] | None = None,
    clip: float | None = None,
) -> nn.Module:
    """A tutorial's loop over the same samples in the same order, from the weights of `model`."""
    train_data = task_for(name)[0].data({}).train
    rate = RATES.get(name, {}).get("learning_rate", learning_rate(name))
    kwargs = {"momentum": 0.9} if name == "SGD" else {}
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    for part, factor in (factors or {}).items():
        chosen = [entry for key, entry in model.named_parameters() if part in key]
        rest = [entry for key, entry in model.named_parameters() if part not in key]
        groups = [{"params": rest}, {"params": chosen, "lr": rate * factor}]
    optimizer = getattr(torch.optim, name)(groups, lr=rate, **kwargs)
    for epoch in range(EPOCHS):
        for rows in epoch_order(SAMPLES, 0, epoch).split(BATCH):

            def closure(rows: Tensor = rows) -> Tensor:
                optimizer.zero_grad()
                loss = loss_of(model(train_data.inputs[rows]), train_data.targets[rows])
                loss.backward()
                if clip:
                    clip_by_hand(model, clip)
                return loss

            optimizer.step(closure)
    return model


def clip_by_hand(model: nn.Module, bound: float) -> None:
    """torch's own clipping; it knows no sparse gradients, so those are scaled by their definition."""
    gradients = [entry.grad for entry in model.parameters() if entry.grad is not None]
    if not any(gradient.is_sparse for gradient in gradients):
        nn.utils.clip_grad_norm_(model.parameters(), bound)
        return
    norm = sum(gradient.to_dense().square().sum() for gradient in gradients) ** 0.5
    for gradient in gradients:
        gradient.mul_(min(1.0, float(bound / (norm + 1e-6))))


def assert_trained_alike(run: PlainRun, **differently: Any) -> None:
    """A run trained to its end has the weights of the loop by hand, and these have moved."""
    model, before = copy.deepcopy(run.model), copy.deepcopy(run.model)
    train(run)
    assert run.steps_done == 20
    by_hand(run.recipe.optimizer, model, **differently)
    for (name, ours), theirs in zip(run.model.state_dict().items(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7, msg=name)
    moved = [not torch.equal(*pair) for pair in zip(model.parameters(), before.parameters(), strict=True)]
    assert any(moved)


@pytest.mark.parametrize("name", NAMES)
def test_weights_equal_a_tutorials_loop(name: str) -> None:
    assert_trained_alike(started(name))


@pytest.mark.parametrize("name", NAMES)
def test_multipliers_equal_torchs_parameter_groups(name: str) -> None:
    part = task_for(name)[1]
    if name == "LBFGS":
        with pytest.raises(SearchSpaceError, match=r"lr_multipliers.*all parameters as one.*2 groups: the rest, '3\.'"):
            started(name, lr_multipliers={part: 0.1})
        return
    assert_trained_alike(started(name, lr_multipliers={part: 0.1}), factors={part: 0.1})


@pytest.mark.parametrize("name", NAMES)
def test_two_weighted_terms_equal_their_sum(name: str) -> None:
    def loss_of(output: Tensor, target: Tensor) -> Tensor:
        return 2.0 * nn.functional.mse_loss(output, target) + 0.5 * nn.functional.l1_loss(output, target)

    assert_trained_alike(started(name, loss=None, loss_weights=WEIGHTS), loss_of=loss_of)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_clip_equals_torchs(name: str) -> None:
    assert_trained_alike(started(name, gradient_clip=0.05), clip=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_ended_after_every_step_equals_one_that_was_not(name: str, tmp_path: Path) -> None:
    """Each piece goes on from a file: moments, LBFGS's history, and the rates of groups."""
    values: dict[str, Any] = {"gradient_clip": 1.0, "scheduler": "CosineAnnealingLR"}
    if name != "LBFGS":
        values["lr_multipliers"] = {task_for(name)[1]: 0.1}
    whole = started(name, **values)
    train(whole)
    assert len(whole.records) == EPOCHS
    pieces = trained_in_pieces(lambda: started(name, **values), tmp_path)
    assert same_bits(outcome(pieces), outcome(whole))


def test_what_nadam_keeps_finer_than_its_parameters_is_not_rounded(tmp_path: Path) -> None:
    """torch's own load_state_dict makes everything bfloat16 where the model is."""

    def start() -> PlainRun:
        task, recipe = Halves(), Recipe(optimizer="NAdam", epochs=2, batch_size=BATCH, loss="mse").with_defaults()
        return Trainer(task, Goal("val_mse"), ("mse", "l1"), CPU).start(recipe)

    whole = start()
    train(whole)
    pieces = trained_in_pieces(start, tmp_path)
    kept = next(iter(pieces.optimizer.state.values()))
    assert (kept["mu_product"].dtype, kept["exp_avg"].dtype) == (torch.float32, torch.bfloat16)
    assert same_bits(outcome(pieces), outcome(whole))


def test_a_multiplier_of_every_parameter_makes_one_group_which_lbfgs_takes() -> None:
    run = started("LBFGS", lr_multipliers={".": 0.5})
    assert [group["lr"] for group in run.optimizer.param_groups] == [0.05]


@pytest.mark.parametrize("name", NAMES)
def test_default_learning_rate_is_the_documented_one(name: str) -> None:
    rate = LEARNING_RATES.get(name, optimizers.default_learning_rate(name))
    assert rate == learning_rate(name)
    assert type(rate) is float


@pytest.mark.parametrize("name", NAMES)
def test_unknown_and_reserved_options_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"here\.lrr: .* has no option 'lrr'.*[Vv]alid: "):
        optimizers.check(name, ["lrr"], "here.{}".format)
    with pytest.raises(UsageError, match=r"here\.lr: 'lr' is set by the recipe's learning_rate"):
        optimizers.check(name, ["lr"], "here.{}".format)
    optimizers.check(name, OPTIMIZER_KWARGS.get(name, {}), "here.{}".format)


def test_muon_names_the_parameters_that_are_no_matrices() -> None:
    with pytest.raises(
        SearchSpaceError, match=r"0\.bias \(6\), 2\.weight \(6\), 2\.bias \(6\), 3\.bias \(1\)"
    ) as error:
        optimizers.build("Muon", Regression().build_model({}), None, {})
    assert "requires_grad_(False)" in error.value.hint
    assert error.value.place == "optimizer"


def test_muon_trains_a_model_whose_other_parameters_are_frozen() -> None:
    model = Regression().build_model({})
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.ndim == 2)
    assert len(optimizers.build("Muon", model, None, {}).param_groups[0]["params"]) == 2


def test_sparse_adam_names_the_parameters_with_dense_gradients() -> None:
    model = nn.ModuleDict({"table": nn.Embedding(3, 2, sparse=True), "dense": nn.Linear(2, 1)})
    with pytest.raises(SearchSpaceError, match=r"dense ones: dense\.weight \(1 x 2\), dense\.bias \(1\)"):
        optimizers.check_model("SparseAdam", model)
    optimizers.check_model("SparseAdam", Tables())
    optimizers.check_model("Adam", model)


def test_groups_say_which_part_they_are() -> None:
    groups = optimizers.parameter_groups(Regression().build_model({}), 0.5, {"3.": 0.1, "bias": 2.0})
    assert [(group["part"], group["lr"], len(group["params"])) for group in groups] == [
        ("", 0.5, 2),
        ("3.", 0.05, 2),
        ("bias", 1.0, 2),
    ]


def test_lists_are_the_tuples_that_torch_asks_for() -> None:
    built = optimizers.build("Adafactor", Regression().build_model({}), 0.1, {"eps": [None, 1e-3]})
    assert built.param_groups[0]["eps"] == (None, 1e-3)
    built = optimizers.build("Adam", Regression().build_model({}), 0.1, {"betas": [0.8, 0.9]})
    assert built.param_groups[0]["betas"] == (0.8, 0.9)
