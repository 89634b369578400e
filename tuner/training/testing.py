"""The last look: what a trained run's kept weights have on the test split."""

from __future__ import annotations

from collections.abc import Callable

from tuner.knobs import knobs_of
from tuner.probe import build_model
from tuner.training.batches import steps_per_epoch
from tuner.training.randomness import undisturbed
from tuner.training.scoring import scored, weights_at
from tuner.training.standing import Standing
from tuner.training.trainer import Trainer


def scores_on_test(
    trainer: Trainer, run: Standing, check_stop: Callable[[], None] = lambda: None
) -> dict[str, float] | None:
    """`test_loss`, loss terms and metrics of a run that is over, as validation has them; None without a test split.

    Scored are the weights that gave the run its value, with the task's state and the loss weights of that epoch.
    `check_stop` is called after each batch, and may raise. The global generators are left as they were.
    """
    source = trainer.test_data(run.recipe)
    if source is None:
        return None
    assert run.kept_epoch is not None
    task, recipe, device = trainer.task, run.recipe, trainer.device
    steps = steps_per_epoch(trainer.data(recipe).train, recipe.batch_size)
    knobs = knobs_of(recipe, recipe.epochs * steps, trainer.terms, task.properties)
    weights = weights_at(recipe, trainer.terms, knobs, run.kept_epoch * steps - 1)
    with undisturbed(device):
        model = build_model(task, recipe).to(device)
        model.load_state_dict({**model.state_dict(), **run.kept_weights()})  # extra state is the model's own
        sums = scored(task, model, source, recipe, weights, run.kept_state(), device, check_stop)
    return sums.averages("test", task)
