"""What moves over a run: timelines name what there is, nothing is moved twice, nothing is searched in vain."""

from __future__ import annotations

from collections.abc import Mapping

from tuner import schedules
from tuner.errors import SearchSpaceError, did_you_mean
from tuner.knobs import path_of, schedulable
from tuner.probe import Probe
from tuner.recipe import Recipe
from tuner.resolve.building import optimizer_over, values_with
from tuner.schedules.simulate import why_constant
from tuner.search_space.parameter import Choices
from tuner.search_space.space import SearchSpace
from tuner.tasks import Task
from tuner.timeline import Timeline, parse_timeline


def check_scheduled(space: SearchSpace, task: Task, probe: Probe) -> list[str]:
    """Check the timeline and the scheduler of every recipe that the space's choices of them make.

    Gives warnings: schedulers that never change the rate, keys behind the run's end.
    """
    warnings: list[str] = []
    for recipe in _variants(space):
        moved: Mapping[str, str] = {}
        if recipe.timeline is not None:
            timeline = parse_timeline(recipe.timeline, space.where("timeline"))
            moved = _moved(space, task, probe, recipe, timeline)
            _check_meaning(space, probe, recipe, moved)
            warnings += _late_keys(space, probe, recipe, timeline)
        _check_searched(space, recipe, moved)
        warnings += _constant(space, task, probe, recipe)
    return list(dict.fromkeys(warnings))


def _variants(space: SearchSpace) -> list[Recipe]:
    """The default recipe, and one for each choice of optimizer, scheduler and timeline."""
    recipes = [space.recipe_for(space.default_values()[0])[0]]
    for parameter in space.parameters:
        if parameter.path in ("optimizer", "scheduler", "timeline") and isinstance(parameter, Choices):
            recipes += [space.recipe_for(values_with(space, parameter, value))[0] for value in parameter.choices]
    return recipes


def _moved(space: SearchSpace, task: Task, probe: Probe, recipe: Recipe, timeline: Timeline) -> dict[str, str]:
    """The recipe paths that a timeline moves, and its column for each."""
    place = f"{space.where('timeline')}{f': {timeline.name}' if timeline.name else ''}"
    names = schedulable(recipe, probe.terms, task.properties)
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


def _check_searched(space: SearchSpace, recipe: Recipe, moved: Mapping[str, str]) -> None:
    """A value that a timeline or the scheduler overwrites cannot be searched: the search would be void."""
    cycled = schedules.overwrites(recipe.scheduler, recipe.scheduler_kwargs) if recipe.scheduler else {}
    if "learning_rate" in moved and recipe.scheduler is not None:
        raise SearchSpaceError(
            f"the timeline moves the learning rate, and so would the scheduler {recipe.scheduler}",
            place=space.where("scheduler"),
            hint="Give scheduler: null.",
        )
    momentum = next((path for path in cycled if path in moved), None)
    if momentum:
        raise SearchSpaceError(
            f"{moved[momentum]} is moved by the timeline, and {cycled[momentum]}", place=space.where("timeline")
        )
    for parameter in space.parameters:
        path = parameter.path
        if path in moved:
            key = f"timeline.{moved[path]}@STEP"
            raise SearchSpaceError(
                f"the timeline moves {path}, so the search for it would be void",
                place=space.where(path),
                hint=f"Search single keys: {key}",
            )
        active = recipe.scheduler in parameter.when.get("scheduler", (recipe.scheduler,))
        if path in cycled and active:
            raise SearchSpaceError(
                f"{cycled[path]}, so the search for {path} would be void", place=space.where(path), hint=_instead(path)
            )


def _instead(path: str) -> str:
    if path == "learning_rate":
        return "Leave out the scheduler's own rate, which is then the learning rate."
    return "Give scheduler_kwargs: {cycle_momentum: false}."


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
    last = max((step for curve in timeline.curves.values() for step, _ in curve.keys), default=0.0)
    if timeline.steps is not None or last <= run_steps:
        return []
    name = timeline.name or "the timeline"
    return [
        f"{name} goes on to step {last:g}, and the run has {run_steps} steps: later keys are never reached "
        f"(give `steps: {last:g}` to stretch it to the run's length)"
    ]


def _constant(space: SearchSpace, task: Task, probe: Probe, recipe: Recipe) -> list[str]:
    """A warning where the scheduler would never change the rate."""
    if recipe.scheduler is None or any(
        path.startswith("scheduler_kwargs") for path in space.searched("scheduler_kwargs")
    ):
        return []
    reason = why_constant(
        recipe.scheduler,
        optimizer_over(task, recipe),
        recipe.scheduler_kwargs,
        recipe.scheduler_configs,
        recipe.epochs,
        probe.steps_per_epoch(recipe.batch_size),
    )
    return [f"the learning rate never changes: {reason}"] if reason else []
