"""Every check that needs torch and the task, before the first trial: names, options, shapes, monitors, schedules."""

from __future__ import annotations

from dataclasses import replace

from tuner import optimizers, schedules
from tuner.errors import SearchSpaceError
from tuner.probe import Probe, probe_task
from tuner.resolve.building import check_build, check_ends, check_variants
from tuner.resolve.metrics import check_expected, check_losses, check_metric, with_direction, with_written_weights
from tuner.resolve.names import check_conditions, check_options, named, with_task_options
from tuner.resolve.scheduled import check_scheduled
from tuner.search_space.build import check_names
from tuner.search_space.space import SearchSpace
from tuner.tasks import Task

__all__ = ["resolve"]


def resolve(space: SearchSpace, task: Task) -> tuple[SearchSpace, Probe]:
    """The space with the task's options written out, checked against task and torch; the probe has the warnings.

    Raises `UsageError` at the first thing that could not be trained, before anything is written.
    """
    space = with_task_options(space, task)
    check_names(space, task_known=True)
    check_conditions(space)
    for name, place in named(space, "optimizer"):
        check_options(space, "optimizer", name, place, optimizers.names(), optimizers.check)
    for name, place in named(space, "scheduler"):
        check_options(space, "scheduler", name, place, schedules.names(), schedules.check)
    recipe, _ = space.recipe_for(space.default_values()[0])
    probe = probe_task(task, recipe, space.where("model"))
    space = with_direction(space, probe)
    check_losses(space, probe)
    check_metric(space, probe)
    check_expected(space, probe)
    check_build(space, task, probe, recipe)
    for parameter in space.parameters:
        check_ends(space, task, probe, parameter)
    check_variants(space, task, probe)
    space = with_written_weights(space, probe)
    if space.constraints and space.size() == 0:
        raise SearchSpaceError(
            "no combination of searched values satisfies the constraints", place=space.constraints[0].place
        )
    return space, replace(probe, warnings=(*probe.warnings, *check_scheduled(space, task, probe)))
