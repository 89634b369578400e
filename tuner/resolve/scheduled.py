"""What moves over a run: timelines name what there is, nothing is moved twice, nothing is searched in vain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from tuner import optimizers, schedules
from tuner.errors import SearchSpaceError, UsageError, did_you_mean
from tuner.knobs import path_of, schedulable
from tuner.probe import Probe
from tuner.recipe import Recipe
from tuner.resolve.building import optimizer_over, variants
from tuner.schedules.simulate import why_constant
from tuner.search_space.space import SearchSpace
from tuner.tasks import Task
from tuner.timeline import Timeline, parse_timeline

OWN_RATE = "Leave out the scheduler's own rate, which is then the learning rate."
STILL = "Give scheduler_kwargs: {cycle_momentum: false}."


def check_scheduled(space: SearchSpace, task: Task, probe: Probe) -> list[str]:
    """Check the timeline and the scheduler of every recipe that the space's choices of them make.

    Gives warnings: values that are set in vain, schedulers that never change the rate, keys behind the run's end.
    """
    warnings: list[str] = []
    for values, recipe in variants(space):
        moved: dict[str, str] = {}
        if recipe.timeline is not None:
            timeline = parse_timeline(recipe.timeline, space.where("timeline"))
            moved = _moved(space, task, probe, recipe, timeline)
            _check_bounds(space, recipe, timeline, moved)
            _check_meaning(space, probe, recipe, moved)
            warnings += _late_keys(space, probe, recipe, timeline)
        void = _void(space, recipe, moved)
        _check_searched(space, values, void)
        warnings += [f"{path} is set in vain: {void[path].why}" for path in void if _is_set(space, path)]
        warnings += _constant(space, task, probe, recipe)
    return list(dict.fromkeys(warnings))


def _moved(space: SearchSpace, task: Task, probe: Probe, recipe: Recipe, timeline: Timeline) -> dict[str, str]:
    """The recipe paths that a timeline moves, and its column for each."""
    place = f"{space.where('timeline')}{f': {timeline.name}' if timeline.name else ''}"
    names = schedulable(recipe, probe.terms, task.properties if probe.has_tensors else ())
    moved: dict[str, str] = {}
    for column in timeline.curves:
        path = path_of(column, names, place)
        if path in moved:
            raise SearchSpaceError(f"'{moved[path]}' and '{column}' are the same value", place=place)
        moved[path] = column
    for _, action in timeline.actions:
        if action not in task.actions:
            hint = did_you_mean(action, task.actions) or "It has no actions."
            raise SearchSpaceError(f"task {type(task).__name__} has no action '{action}'", place=place, hint=hint)
    for _, phase in timeline.phases:
        if task.phases and phase not in task.phases:
            hint = did_you_mean(phase, task.phases)
            raise SearchSpaceError(f"task {type(task).__name__} has no phase '{phase}'", place=place, hint=hint)
    return moved


def _check_bounds(space: SearchSpace, recipe: Recipe, timeline: Timeline, moved: Mapping[str, str]) -> None:
    """A timeline's values must be such as the recipe takes; a learning rate may be 0 for a while."""
    for path, column in moved.items():
        keys = [value for _, value in timeline.curves[column].keys]
        place = f"{space.where('timeline')}: {column}"
        for value in (min(keys), max(keys)):
            if (path == "learning_rate" and value == 0) or path.startswith("data."):
                continue
            try:
                _check_value(recipe, path, value)
            except UsageError as error:
                raise SearchSpaceError(error.rule, place=place, value=value) from None
            except (ValueError, TypeError) as error:
                raise SearchSpaceError(f"{recipe.optimizer}: {error}", place=place, value=value) from None
        if recipe.optimizer == "RMSprop" and path.endswith(".momentum") and timeline.at(0, 1)[column] == 0 < max(keys):
            rule = "torch's RMSprop keeps no momentum unless it is above 0 at the first step"
            raise SearchSpaceError(rule, place=place, value=0.0, hint="Begin at 1e-3.")


def _check_value(recipe: Recipe, path: str, value: float) -> None:
    """Raise where the recipe, or torch's optimizer, does not take a value."""
    section, _, option = path.partition(".")
    if section != "optimizer_kwargs":
        recipe.model_copy(update={"loss": None}).with_values({path: value}, "")
        return
    betas = _over_one_weight(recipe, {}).defaults.get("betas")
    if option == "momentum" and betas:
        _over_one_weight(recipe, {"betas": (value, *betas[1:])})
    else:
        _over_one_weight(recipe, {option: value})


def _over_one_weight(recipe: Recipe, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    with torch.random.fork_rng(devices=[]):
        return optimizers.build(recipe.optimizer, torch.nn.Linear(1, 1, bias=False), 1e-3, options)


class Void(NamedTuple):
    """Why a recipe value has no effect, and what to do instead of searching it."""

    why: str
    instead: str


def _void(space: SearchSpace, recipe: Recipe, moved: Mapping[str, str]) -> dict[str, Void]:
    """Recipe values that nothing reads, or that something else overwrites.

    Raises `SearchSpaceError` where timeline and scheduler move the same value.
    """
    cycled = schedules.overwrites(recipe.scheduler, recipe.scheduler_kwargs) if recipe.scheduler else {}
    if "learning_rate" in moved and recipe.scheduler is not None:
        raise SearchSpaceError(
            f"the timeline moves the learning rate, and so would the scheduler {recipe.scheduler}",
            place=space.where("scheduler"),
            hint="Give scheduler: null.",
        )
    both = next((path for path in cycled if path in moved), None)
    if both:
        rule = f"{moved[both]} is moved by the timeline, and {cycled[both]}"
        raise SearchSpaceError(rule, place=space.where("timeline"))
    found = {path: Void(why, OWN_RATE if path == "learning_rate" else STILL) for path, why in cycled.items()}
    for path, column in moved.items():
        keys = f"Search single keys, timeline.{column}@STEP, or add `when` where only some timelines move it."
        found[path] = Void(f"the timeline moves {path}", keys)
        if path == "optimizer_kwargs.momentum":
            found.setdefault("optimizer_kwargs.betas", Void("the timeline moves momentum, the first of them", keys))
        if path.startswith("loss_weights."):
            found["loss"] = Void("the timeline moves loss weights", keys)
    if recipe.scheduler is None:
        fixed = (f"scheduler_kwargs.{name}" for name in recipe.scheduler_kwargs)
        unread = Void("the recipe has no scheduler", "Add `when: {scheduler: NAME}`.")
        found |= dict.fromkeys([*fixed, *space.searched("scheduler_kwargs")], unread)
    return found


def _is_set(space: SearchSpace, path: str) -> bool:
    return space.origins.get(path, "").startswith("--set")


def _check_searched(space: SearchSpace, values: Mapping[str, Any], void: Mapping[str, Void]) -> None:
    """A value that nothing reads cannot be searched or derived: the search would be void."""
    for path in [*values, *space.derived]:
        if path in void:
            rule = f"{void[path].why}, so the search for {path} would be void"
            raise SearchSpaceError(rule, place=space.where(path), hint=void[path].instead)


def _check_meaning(space: SearchSpace, probe: Probe, recipe: Recipe, moved: Mapping[str, str]) -> None:
    """Where loss weights move, the weighted loss of one epoch cannot be compared with another's."""
    weight = next((path for path in moved if path.startswith("loss_weights.")), None)
    if weight is None:
        return
    hint = "Unweighted: " + ", ".join(probe.unweighted)
    rule = f"{weight} follows a timeline, and it changes what this means from epoch to epoch"
    watched = {f"{space.place}: metric": space.metric}
    if recipe.early_stopping is not None:
        watched[space.where("early_stopping.monitor")] = recipe.early_stopping.monitor
    if schedules.is_plateau(recipe.scheduler):
        watched[space.where("scheduler_configs.monitor")] = recipe.scheduler_configs.monitor
    for place, name in watched.items():
        if name not in probe.unweighted:
            raise SearchSpaceError(rule, place=place, value=name, hint=hint)


def _late_keys(space: SearchSpace, probe: Probe, recipe: Recipe, timeline: Timeline) -> list[str]:
    """A warning where a timeline that is not stretched goes on behind the run's end."""
    run_steps = recipe.epochs * probe.steps_per_epoch(recipe.batch_size)
    keys = [step for curve in timeline.curves.values() for step, _ in curve.keys]
    last = max([*keys, *(step for step, _ in (*timeline.phases, *timeline.actions))], default=0.0)
    if timeline.steps is not None or last <= run_steps:
        return []
    name = timeline.name or "the timeline"
    return [
        f"{name} goes on to step {last:g}, and the run has {run_steps} steps: later keys are never reached "
        f"(give `steps: {last:g}` to stretch it to the run's length)"
    ]


def _constant(space: SearchSpace, task: Task, probe: Probe, recipe: Recipe) -> list[str]:
    """A warning where the scheduler would never change the rate."""
    if recipe.scheduler is None or space.searched("scheduler_kwargs"):
        return []
    options, configs = recipe.scheduler_kwargs, recipe.scheduler_configs
    steps = probe.steps_per_epoch(recipe.batch_size)
    try:
        reason = why_constant(recipe.scheduler, optimizer_over(task, recipe), options, configs, recipe.epochs, steps)
    except (ValueError, TypeError, ArithmeticError) as error:  # what a run of one epoch does not bring out
        place = space.where("scheduler_kwargs")
        raise SearchSpaceError(f"{recipe.scheduler}: {error}", place=place, value=options) from None
    return [f"the learning rate never changes: {reason}"] if reason else []
