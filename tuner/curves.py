"""The curves of a recipe: every value that changes over a run, at each of its steps, before any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner import schedules
from tuner.knobs import knobs_of
from tuner.probe import Probe
from tuner.recipe import Recipe
from tuner.report.curves import Curves
from tuner.report.words import shown
from tuner.resolve import resolve
from tuner.resolve.building import optimizer_over
from tuner.schedules.simulate import rates
from tuner.search_space import Target
from tuner.search_space.build import build_space, plain_space
from tuner.tasks import Task, load_task


def curves_of(
    target: Target, settings: Mapping[str, Any] | None = None, recipe: str | None = None, mode: str = ""
) -> Curves:
    """The curves of a target's recipe; raises what training it would raise before its first step."""
    space = build_space(target, mode, settings, recipe) if mode else plain_space(target, settings, recipe)
    task = load_task(space.task)
    space, probe = resolve(space, task)
    values, _ = space.default_values()
    if values:
        drawn = ", ".join(f"{path}={shown(value)}" for path, value in values.items())
        probe = replace(probe, warnings=(*probe.warnings, f"the mode searches; drawn for {drawn}"))
    return recipe_curves(task, space.recipe_for(values)[0], probe, target.name)


def recipe_curves(task: Task, recipe: Recipe, probe: Probe, name: str) -> Curves:
    """The curves of a checked recipe; a plateau scheduler keeps its rate, for no one knows when it will step."""
    per_epoch = probe.steps_per_epoch(recipe.batch_size)
    steps = recipe.epochs * per_epoch
    every = _scheduler_values(task, recipe, per_epoch)
    knobs = knobs_of(recipe, steps, probe.terms, task.properties)
    scheduled = [knobs.at(step) for step in range(steps)]
    for path in knobs.paths.values():
        every.update(_column(path, [values[path] for values in scheduled], recipe))
    actions = tuple((step, action) for step in range(steps) for action in knobs.actions(step))
    bounds = knobs.timeline.phase_bounds(steps) if knobs.timeline else []
    notes = probe.warnings
    if schedules.is_plateau(recipe.scheduler):
        notes += ("ReduceLROnPlateau steps down when training says so: its rate is drawn as it starts",)
    return Curves(
        about=f"{name}: {recipe.optimizer}, scheduler {recipe.scheduler or 'none'}, {recipe.epochs} epochs of "
        f"{per_epoch} steps",
        steps=steps,
        steps_per_epoch=per_epoch,
        values={name: column for name, column in every.items() if len(set(column)) > 1},
        constant={name: column[0] for name, column in every.items() if len(set(column)) == 1},
        phases=tuple(bound for bound in bounds if bound[0]),
        actions=actions,
        warnings=notes,
    )


def _scheduler_values(task: Task, recipe: Recipe, per_epoch: int) -> dict[str, list[float]]:
    """The learning rate of each part of the model, and momentum where it is cycled, at each step."""
    optimizer = optimizer_over(task, recipe)
    parts = [str(group.get("part", "")) for group in optimizer.param_groups]
    found: dict[str, list[float]] = {}
    options, configs, epochs = recipe.scheduler_kwargs, recipe.scheduler_configs, recipe.epochs
    every = rates(recipe.scheduler, optimizer, options, configs, epochs, per_epoch, at_most=epochs * per_epoch)
    for name, column in every.items():
        for place, part in enumerate(parts):
            if name == "learning_rate" or place == 0:
                found[f"{name} ({part})" if part else name] = [of_groups[place] for of_groups in column]
    return found


def _column(path: str, values: list[float], recipe: Recipe) -> dict[str, list[float]]:
    """A timeline's column; the learning rate once for each part of the model."""
    found = {path.removeprefix("optimizer_kwargs."): values}
    if path == "learning_rate":
        found |= {
            f"{path} ({part})": [factor * value for value in values] for part, factor in recipe.lr_multipliers.items()
        }
    return found


def default_picture(studies: Path, name: str) -> Path:
    """Where the curves' picture goes unless a file is given."""
    return studies / f"{name}-schedule.png"
