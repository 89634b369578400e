"""Trajectories: trials that differ only in where they end share one training, read at several points."""

from __future__ import annotations

import json

from tuner.recipe import Recipe
from tuner.schedules.lengths import Run, completed
from tuner.schedules.overwriting import with_parts


def trajectory_of(recipe: Recipe, steps_per_epoch: int) -> str:
    """Equal for recipes whose runs are the same as far as both go: they differ in `epochs` or early stopping alone.

    Where the schedule depends on the run's length, `epochs` is part of it.
    """
    values = recipe.model_dump()
    del values["early_stopping"]
    if not depends_on_length(recipe, steps_per_epoch):
        del values["epochs"]
    return json.dumps(values, sort_keys=True, default=str)


def depends_on_length(recipe: Recipe, steps_per_epoch: int) -> bool:
    """Whether a recipe's schedule is another for other `epochs`: a timeline, or a scheduler with the run's lengths."""
    if recipe.timeline is not None:
        return True
    lengths = (1, 1_000 * recipe.scheduler_configs.frequency)
    runs = [Run.of(recipe.scheduler_configs, epochs, steps_per_epoch, (1.0,)) for epochs in lengths]
    for name, options in with_parts(recipe.scheduler, recipe.scheduler_kwargs):
        short, long = (completed(name, options, run) for run in runs)
        if short != long:
            return True
    return False
