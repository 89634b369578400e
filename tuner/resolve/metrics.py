"""Loss terms, the metric, and what is monitored: names that the task records, and values that keep their meaning."""

from __future__ import annotations

from dataclasses import replace

from tuner import schedules
from tuner.errors import SearchSpaceError, did_you_mean
from tuner.probe import Probe
from tuner.recipe import monitor_mode
from tuner.resolve.names import named
from tuner.search_space.space import SearchSpace


def check_losses(space: SearchSpace, probe: Probe) -> None:
    weights = [*space.recipe.loss_weights, *(path.partition(".")[2] for path in space.searched("loss_weights"))]
    weighted = [(name, space.where(f"loss_weights.{name}")) for name in weights]
    for name, place in [*weighted, *named(space, "loss")]:
        if name is not None and name not in probe.terms:
            raise SearchSpaceError(
                f"the task has no loss term '{name}'", place=place, hint=did_you_mean(name, probe.terms)
            )


def check_expected(space: SearchSpace, probe: Probe) -> None:
    """What a good or poor study is said by must be recorded."""
    known = (*probe.recorded, "gap", "value")
    for verdict, limits in (space.expect or {}).items():
        for name in limits:
            if name not in known:
                place = f"{space.place}: expect.{verdict}"
                raise SearchSpaceError(f"the task records no '{name}'", place=place, hint=did_you_mean(name, known))


def with_direction(space: SearchSpace, probe: Probe) -> SearchSpace:
    """The space with losses minimized, where it says no direction."""
    if space.direction or space.metric.partition("_")[2] not in probe.terms:
        return space
    return replace(space, direction="minimize")


def check_metric(space: SearchSpace, probe: Probe) -> None:
    place = f"{space.place}: metric"
    if space.metric not in probe.recorded:
        raise SearchSpaceError(
            f"the task records no '{space.metric}'", place=place, hint=did_you_mean(space.metric, probe.recorded)
        )
    if not space.direction:
        raise SearchSpaceError(
            "say direction: minimize or maximize", place=f"{space.place}: direction", value=space.metric
        )
    weighted = [*space.searched("loss"), *space.searched("loss_weights")]
    if weighted and space.metric not in probe.unweighted:
        raise SearchSpaceError(
            f"{weighted[0]} is searched, and it changes what {space.metric} means: a weight of zero would win",
            place=place,
            value=space.metric,
            hint="Unweighted metrics: " + ", ".join(probe.unweighted),
        )
    recipe = space.recipe
    if recipe.early_stopping is not None:
        stopping = recipe.early_stopping
        _check_monitor(stopping.monitor, stopping.mode, space, probe, "early_stopping")
    if any(schedules.is_plateau(name) for name, _ in named(space, "scheduler")):
        given = recipe.scheduler_kwargs.get("mode", "auto")
        if recipe.scheduler_configs.interval == "step":
            raise SearchSpaceError(
                "ReduceLROnPlateau watches a value that is new once an epoch",
                place=space.where("scheduler_configs.interval"),
                value="step",
                hint="Give interval: epoch.",
            )
        _check_monitor(recipe.scheduler_configs.monitor, given, space, probe, "scheduler_configs")


def _check_monitor(monitor: str, mode: str, space: SearchSpace, probe: Probe, section: str) -> None:
    if monitor not in probe.recorded:
        raise SearchSpaceError(
            f"the task records no '{monitor}'",
            place=space.where(f"{section}.monitor"),
            hint=did_you_mean(monitor, probe.recorded),
        )
    if monitor_mode(monitor, mode, space.metric, space.maximize, probe.terms) is None:
        raise SearchSpaceError(
            "say whether lower or higher is better: mode: min or max", place=space.where(section), value=monitor
        )


def with_written_weights(space: SearchSpace, probe: Probe) -> SearchSpace:
    """Where single loss weights are searched, the others stay at the weight 1 that they have by default."""
    if not space.searched("loss_weights") or space.recipe.loss_weights or space.recipe.loss:
        return space
    weights = dict.fromkeys(probe.terms, 1.0)
    return replace(space, recipe=space.recipe.model_copy(update={"loss_weights": weights}))
