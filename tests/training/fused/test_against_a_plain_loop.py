"""A group against the loop that a tutorial teaches, in float64: an epoch of every bundled task agrees to 1e-8."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fusing import CPU, SMALL, assert_close, in_double, plain, shown, small, trained
from torch import Tensor, nn

from tuner.probe import build_model
from tuner.recipe import Recipe, loss_weights
from tuner.tasks import Task
from tuner.training.batches import training_batches, validation_batches

Making = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

WAYS: dict[str, tuple[dict[str, object], Making, float | None]] = {
    "Adam": ({"optimizer": "Adam", "learning_rate": 1e-2}, lambda p: torch.optim.Adam(p, lr=1e-2), None),
    "SGD, clipped": (
        {"optimizer": "SGD", "learning_rate": 0.05, "gradient_clip": 0.1},
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        0.1,
    ),
    "NAdam, by torch itself": (
        {"optimizer": "NAdam", "learning_rate": 2e-3, "optimizer_kwargs": {"weight_decay": 0.1}},
        lambda p: torch.optim.NAdam(p, lr=2e-3, weight_decay=0.1),
        None,
    ),
}


def by_hand(
    task: Task, recipe: Recipe, optimizer_of: Making, clip: float | None, terms: tuple[str, ...]
) -> tuple[nn.Module, float]:
    """The weights after an epoch, and the mean validation loss."""
    data, model, state = task.data(recipe.data), build_model(task, recipe), task.state()
    weights, optimizer = loss_weights(recipe, terms), optimizer_of(list(model.parameters()))

    def loss_of(found: dict[str, Tensor]) -> Tensor:
        return torch.stack([weight * found[name].mean() for name, weight in weights.items()]).sum()

    model.train()
    for batch in training_batches(task, data.train, recipe, 0, CPU, lambda step: {**recipe.data, "phase": ""}):
        optimizer.zero_grad()
        loss_of(task.losses(task.forward(model, batch), batch, state)).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    model.eval()
    total = 0.0
    with torch.no_grad():
        for batch in validation_batches(data.validation, recipe, CPU):
            total += len(batch) * float(loss_of(task.losses(task.predict(model, batch.inputs), batch, state)))
    return model, total / len(data.validation)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(SMALL))
def test_an_epoch_of_three_trials_in_one_group(name: str) -> None:
    off = {"model": {"dropout": 0.0}} if "dropout" in SMALL[name].get("model", {}) else {}
    recipes = [small(name, epochs=1, seed=seed, **off, **WAYS[way][0])[1] for seed, way in enumerate(WAYS)]
    task = in_double(small(name)[0])
    for member, (_, optimizer_of, clip) in zip(trained(task, *recipes), WAYS.values(), strict=True):
        model, loss = by_hand(task, member.recipe, optimizer_of, clip, member.program.terms)
        assert_close(member.weights_now(), dict(model.state_dict()), rel=1e-8, abs=1e-12)
        assert member.records[0].val_loss == pytest.approx(loss, rel=1e-8)
        run = plain(task, member.recipe)
        assert_close(member.weights_now(), run.weights_now(), rel=1e-8, abs=1e-12)
        assert_close(shown(member), shown(run), rel=1e-5)
