"""Every check that needs torch and the task, before the first trial: names, options, shapes, monitors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from tuner import optimizers, schedules
from tuner.errors import SearchSpaceError, UsageError, did_you_mean
from tuner.probe import Probe, build_model, probe_task
from tuner.recipe import Recipe, monitor_mode
from tuner.search_space.build import check_names
from tuner.search_space.parameter import Choices, Parameter, is_number
from tuner.search_space.space import SearchSpace
from tuner.tasks import Task

CheckOptions = Callable[[str, list[str], Callable[[str], str]], None]


def resolve(space: SearchSpace, task: Task) -> tuple[SearchSpace, Probe]:
    """The space with the task's options written out, checked against task and torch.

    Raises `UsageError` at the first thing that could not be trained, before anything is written.
    """
    space = with_task_options(space, task)
    check_names(space, task_known=True)
    _check_conditions(space)
    for name, place in _named(space, "optimizer"):
        _check_choice(space, "optimizer", name, place, optimizers.names(), optimizers.check)
    for name, place in _named(space, "scheduler"):
        _check_choice(space, "scheduler", name, place, schedules.names(), schedules.check)
    recipe, _ = space.recipe_for(space.default_values()[0])
    probe = probe_task(task, recipe, space.where("model"))
    _check_losses(space, probe)
    _check_metric(space, probe)
    _check_build(space, task, recipe)
    for parameter in space.parameters:
        _check_ends(space, task, parameter)
    space = _with_written_weights(space, probe)
    if space.constraints and space.size() == 0:
        raise SearchSpaceError(
            "no combination of searched values satisfies the constraints", place=space.constraints[0].place
        )
    return space, probe


def with_task_options(space: SearchSpace, task: Task) -> SearchSpace:
    """The space with defaults of `model` and `data` filled in from the task.

    Unknown options are errors, and so are values of another type than the option's default.
    """
    updates: dict[str, Any] = {}
    for section, options in (("model", task.model_options), ("data", task.data_options)):
        given: Mapping[str, Any] = getattr(space.recipe, section)
        derived = [path for path in space.derived if path.startswith(f"{section}.")]
        for path in [*(f"{section}.{name}" for name in given), *space.searched(section), *derived]:
            name = path.partition(".")[2]
            if name not in options:
                hint = did_you_mean(name, options) if options else f"Its `{section}_options` are empty."
                raise SearchSpaceError(
                    f"task {type(task).__name__} has no {section} option '{name}'", place=space.where(path), hint=hint
                )
        for name, value in given.items():
            _check_kind(value, options[name], space.where(f"{section}.{name}"))
        for parameter in space.parameters:
            if parameter.path.startswith(f"{section}."):
                default = options[parameter.path.partition(".")[2]]
                for key, value in _ends(parameter):
                    _check_kind(value, default, f"{space.where(parameter.path)}.{key}")
        updates[section] = {**options, **given}
    return replace(space, recipe=space.recipe.model_copy(update=updates))


def _check_kind(value: Any, default: Any, place: str) -> None:
    """A value must be of its default's type; a default that is None or a list says nothing."""
    kinds: tuple[tuple[type, str, Callable[[Any], bool]], ...] = (
        (bool, "true or false", lambda entry: isinstance(entry, bool)),
        (int, "a whole number", lambda entry: isinstance(entry, int) and not isinstance(entry, bool)),
        (float, "a number", is_number),
        (str, "a text", lambda entry: isinstance(entry, str)),
    )
    for kind, words, fits in kinds:
        if isinstance(default, kind):
            if value is not None and not fits(value):
                raise SearchSpaceError(f"must be {words}, as its default {default!r} is", place=place, value=value)
            return


def _ends(parameter: Parameter) -> list[tuple[str, Any]]:
    """Every choice, or both ends of a range, with the key that says it."""
    if isinstance(parameter, Choices):
        return [(f"choices[{i}]", value) for i, value in enumerate(parameter.choices)]
    description = parameter.describe()
    return [(key, description[key]) for key in ("low", "high")]


def _check_conditions(space: SearchSpace) -> None:
    """Conditions on options of the task, unknown until now, and on names that torch does not have."""
    known = {*space.recipe.flat(), *(entry.path for entry in space.parameters)}
    for parameter in space.parameters:
        for path, allowed in parameter.when.items():
            place = f"{space.where(parameter.path)}.when"
            if path not in known:
                raise SearchSpaceError(f"there is no value '{path}'", place=place, hint=did_you_mean(path, known))
            for value in allowed if path in ("optimizer", "scheduler") else ():
                names = optimizers.names() if path == "optimizer" else schedules.names()
                if value is not None and value not in names:
                    raise SearchSpaceError(
                        f"{path} never takes this value",
                        place=f"{place}.{path}",
                        value=value,
                        hint=did_you_mean(value, names),
                    )


def _named(space: SearchSpace, field: str) -> list[tuple[Any, str]]:
    """Every name that `field` can take, with the place that says so."""
    for parameter in space.parameters:
        if parameter.path == field and isinstance(parameter, Choices):
            return [(name, f"{space.where(field)}.choices[{i}]") for i, name in enumerate(parameter.choices)]
    return [(getattr(space.recipe, field), space.where(field))]


def _check_choice(
    space: SearchSpace, field: str, name: Any, place: str, known: Mapping[str, Any], check: CheckOptions
) -> None:
    """An optimizer or scheduler must be torch's, and the options that can stand beside it its own."""
    if name is None:
        return
    if field == "scheduler" and name in schedules.COMPOSED:
        raise SearchSpaceError(f"{name} is built from functions or other schedulers", place=place)
    if name not in known:
        raise SearchSpaceError(f"there is no {field} '{name}'", place=place, hint=did_you_mean(name, known))
    fixed = list(getattr(space.recipe, f"{field}_kwargs"))
    searched = [
        entry.path.partition(".")[2]
        for entry in space.parameters
        if entry.path.startswith(f"{field}_kwargs.") and name in entry.when.get(field, (name,))
    ]
    try:
        check(name, [*fixed, *searched], lambda option: space.where(f"{field}_kwargs.{option}"))
    except UsageError as error:
        hint = error.hint
        if " has no option " in error.rule and error.rule.split("'")[1] in searched:
            hint += "" if hint.endswith(("?", ".")) else "."
            hint += f" If it is meant for another {field}, add `when: {{{field}: NAME}}`."
        raise SearchSpaceError(error.rule, place=error.place, hint=hint) from None


def _check_losses(space: SearchSpace, probe: Probe) -> None:
    weights = [*space.recipe.loss_weights, *(path.partition(".")[2] for path in space.searched("loss_weights"))]
    named = [(name, space.where(f"loss_weights.{name}")) for name in weights]
    for name, place in [*named, *_named(space, "loss")]:
        if name is not None and name not in probe.terms:
            raise SearchSpaceError(
                f"the task has no loss term '{name}'", place=place, hint=did_you_mean(name, probe.terms)
            )


def _check_metric(space: SearchSpace, probe: Probe) -> None:
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
    if any(schedules.is_plateau(name) for name, _ in _named(space, "scheduler")):
        given = recipe.scheduler_kwargs.get("mode", "auto")
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


def _check_build(space: SearchSpace, task: Task, recipe: Recipe) -> None:
    """torch must accept the default recipe's optimizer over the task's model, and its scheduler."""
    model = build_model(task, recipe, space.where("model"))
    try:
        optimizers.build(recipe.optimizer, model, recipe.learning_rate, recipe.optimizer_kwargs, recipe.lr_multipliers)
    except UsageError as error:
        place = space.where(error.place)
        raise SearchSpaceError(error.rule, place=place, value=error.value, hint=error.hint) from None
    except (ValueError, TypeError) as error:
        rule, place = f"{recipe.optimizer}: {error}", space.where("optimizer_kwargs")
        raise SearchSpaceError(rule, place=place, value=recipe.optimizer_kwargs) from error
    problem = _scheduler_problem(recipe)
    if problem:
        raise SearchSpaceError(problem, place=space.where("scheduler_kwargs"), value=recipe.scheduler_kwargs)


def _check_ends(space: SearchSpace, task: Task, parameter: Parameter) -> None:
    """What a searched value allows must make a model, an optimizer and a scheduler."""
    section = parameter.path.partition(".")[0]
    if section not in ("model", "optimizer", "optimizer_kwargs", "scheduler", "scheduler_kwargs"):
        return
    for key, value in _ends(parameter):
        recipe, violated = space.recipe_for(_values_with(space, parameter, value))
        problem = None if violated else _problem(task, recipe, section)
        if problem:
            raise SearchSpaceError(problem, place=f"{space.where(parameter.path)}.{key}", value=value)


def _values_with(space: SearchSpace, parameter: Parameter, value: Any) -> dict[str, Any]:
    """The searched values nearest to the default recipe under which `parameter` is active and takes `value`."""
    by_path = {entry.path: entry for entry in space.parameters}
    wanted, waiting = {parameter.path: value}, [parameter]
    while waiting:
        for path, allowed in waiting.pop().when.items():
            if path in by_path and path not in wanted:
                wanted[path] = allowed[0]
                waiting.append(by_path[path])
    return space.nearest_values(space.recipe.with_values(wanted, space.place))[0]


def _problem(task: Task, recipe: Recipe, section: str) -> str | None:
    """Why a recipe cannot be trained, as far as one section decides it; None if it can."""
    if section == "model":
        try:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                task.build_model(recipe.model)
        except ValueError as error:
            return str(error)
        except Exception:
            return None  # some models cannot be built without memory; their trials will tell
        return None
    if section.startswith("scheduler"):
        return _scheduler_problem(recipe)
    try:
        optimizers.build(recipe.optimizer, _dummy(), recipe.learning_rate, recipe.optimizer_kwargs)
    except (ValueError, TypeError) as error:
        return f"{recipe.optimizer}: {error}"
    return None


def _scheduler_problem(recipe: Recipe) -> str | None:
    """Why torch refuses a recipe's scheduler, or fails at its first steps; None if it does not."""
    optimizer = torch.optim.SGD(_dummy().parameters(), lr=0.1, momentum=0.9)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler = schedules.build(
                recipe.scheduler, optimizer, recipe.scheduler_kwargs, recipe.scheduler_configs, recipe.epochs, 4
            )
            for _ in range(2 if scheduler is not None else 0):
                scheduler.step(*([1.0] if schedules.is_plateau(recipe.scheduler) else []))
    except (ValueError, TypeError, ArithmeticError) as error:
        if "more times than" not in str(error) and "Tried to step" not in str(error):
            return f"{recipe.scheduler}: {error}"
    return None


def _dummy() -> torch.nn.Module:
    """The smallest model that every optimizer takes (Muon takes matrices only)."""
    with torch.random.fork_rng(devices=[]):
        return torch.nn.Linear(1, 1, bias=False)


def _with_written_weights(space: SearchSpace, probe: Probe) -> SearchSpace:
    """Where single loss weights are searched, the others stay at the weight 1 that they have by default."""
    if not space.searched("loss_weights") or space.recipe.loss_weights or space.recipe.loss:
        return space
    weights = dict.fromkeys(probe.terms, 1.0)
    return replace(space, recipe=space.recipe.model_copy(update={"loss_weights": weights}))
