"""Scoring: what a model has on samples it does not train on, be they for validation or for a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tuner.knobs import Knobs
from tuner.recipe import Recipe, loss_weights
from tuner.tasks.base import Source, Task
from tuner.training.batches import validation_batches
from tuner.training.precision import forward_in, matrices_in
from tuner.training.randomness import seed_generators
from tuner.training.sums import Sums


@torch.no_grad()
def scored(
    task: Task,
    model: nn.Module,
    source: Source,
    recipe: Recipe,
    weights: Mapping[str, float],
    state: Mapping[str, Tensor],
    device: torch.device,
    check_stop: Callable[[], None],
) -> Sums:
    """The sums of the loss, its terms and the metrics over all of `source`; leaves the model in evaluation.

    `weights` are those of the loss terms, `state` is the task's. Calls `check_stop`, which may raise, after each batch,
    and seeds the global generators.
    """
    model.eval()
    sums = Sums()
    for number, batch in enumerate(validation_batches(source, recipe, device)):
        seed_generators(device, "validation", recipe.dropout_seed, number)
        with matrices_in(recipe.precision, device), forward_in(recipe.precision, device):
            output = task.predict(model, batch.inputs)
            terms = {name: term.mean() for name, term in task.losses(output, batch, state).items()}
            loss = weighted(terms, weights)
        sums.add(len(batch), loss, terms, task.metrics(output, batch), None)
        check_stop()
    return sums


def weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The sum of the terms by their weights; a term of weight 0 is left out, so that its NaN stays out too."""
    used = [weight * terms[name] for name, weight in weights.items() if weight]
    return torch.stack(used).sum() if used else torch.stack(list(terms.values())).sum() * 0.0


def weights_at(recipe: Recipe, terms: tuple[str, ...], knobs: Knobs, step: int) -> dict[str, float]:
    """The weight of every loss term at a step of the run, as a timeline has moved it."""
    moved = {path.removeprefix("loss_weights."): value for path, value in knobs.at(step).items()}
    return {name: moved.get(name, weight) for name, weight in loss_weights(recipe, terms).items()}
