"""What recipes must make: a model, an optimizer over it, and a scheduler."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from tuner import optimizers
from tuner.errors import SearchSpaceError, UsageError
from tuner.probe import Probe, build_model
from tuner.recipe import Recipe
from tuner.schedules.simulate import MOST_STEPS, rates
from tuner.search_space.parameter import Choices, Parameter, ends
from tuner.search_space.space import SearchSpace
from tuner.tasks import Task

KINDS = ("optimizer", "scheduler", "timeline")
"""Recipe values whose combinations decide what can be trained."""

MOST_VARIANTS = 200


def check_build(space: SearchSpace, task: Task, probe: Probe, recipe: Recipe) -> None:
    """torch must accept the default recipe's optimizer over the task's model, and its scheduler."""
    try:
        optimizer = optimizer_over(task, recipe, space.where("model"))
    except UsageError as error:
        place = space.where(error.place)
        raise SearchSpaceError(error.rule, place=place, value=error.value, hint=error.hint) from None
    except (ValueError, TypeError) as error:
        rule, place = f"{recipe.optimizer}: {error}", space.where("optimizer_kwargs")
        raise SearchSpaceError(rule, place=place, value=recipe.optimizer_kwargs) from error
    problem = _scheduler_problem(recipe, optimizer, probe.steps_per_epoch(recipe.batch_size))
    if problem:
        raise SearchSpaceError(problem, place=space.where("scheduler_kwargs"), value=recipe.scheduler_kwargs)


def variants(space: SearchSpace) -> list[tuple[dict[str, Any], Recipe]]:
    """The default recipe, and one for each combination of optimizer, scheduler and timeline that is searched."""
    searched = [entry for entry in space.parameters if entry.path in KINDS and isinstance(entry, Choices)]
    found = [space.default_values()[0]]
    if not searched:
        return [(found[0], space.recipe_for(found[0])[0])]
    for combination in itertools.islice(itertools.product(*(entry.choices for entry in searched)), MOST_VARIANTS):
        wanted = dict(zip((entry.path for entry in searched), combination, strict=True))
        values = space.nearest_values(space.recipe.with_values(wanted, space.place))[0]
        found.append(values | {path: value for path, value in wanted.items() if path in values})
    return [(values, space.recipe_for(values)[0]) for values in found]


def check_variants(space: SearchSpace, task: Task, probe: Probe) -> None:
    """Every combination of optimizer and scheduler must be one that torch takes."""
    for values, recipe in variants(space)[1:]:  # the default recipe is checked before
        problem = _problem(task, probe, recipe, "optimizer")
        if problem:
            chosen = {path: value for path, value in values.items() if path in KINDS}
            place = space.where(next(iter(chosen), "optimizer"))
            raise SearchSpaceError(f"the combination cannot be trained: {problem}", place=place, value=chosen)


def check_ends(space: SearchSpace, task: Task, probe: Probe, parameter: Parameter) -> None:
    """What a searched value allows must make a model, an optimizer and a scheduler."""
    section = parameter.path.partition(".")[0]
    if section not in ("model", "optimizer", "optimizer_kwargs", "scheduler", "scheduler_kwargs"):
        return
    for key, value in ends(parameter):
        recipe, violated = space.recipe_for(values_with(space, parameter, value))
        problem = None if violated else _problem(task, probe, recipe, section)
        if problem:
            raise SearchSpaceError(problem, place=f"{space.where(parameter.path)}.{key}", value=value)


def values_with(space: SearchSpace, parameter: Parameter, value: Any) -> dict[str, Any]:
    """The searched values nearest to the default recipe under which `parameter` is active and takes `value`."""
    by_path = {entry.path: entry for entry in space.parameters}
    wanted, waiting = {parameter.path: value}, [parameter]
    while waiting:
        for path, allowed in waiting.pop().when.items():
            if path in by_path and path not in wanted:
                wanted[path] = allowed[0]
                waiting.append(by_path[path])
    return space.nearest_values(space.recipe.with_values(wanted, space.place))[0]


def optimizer_over(task: Task, recipe: Recipe, place: str = "") -> torch.optim.Optimizer:
    """The recipe's optimizer over a fresh model; raises as `optimizers.build` does."""
    model = build_model(task, recipe, place)
    optimizers.check_model(recipe.optimizer, model)
    kwargs, multipliers = recipe.optimizer_kwargs, recipe.lr_multipliers
    return optimizers.build(recipe.optimizer, model, recipe.learning_rate, kwargs, multipliers)


def _problem(task: Task, probe: Probe, recipe: Recipe, section: str) -> str | None:
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
    try:
        optimizer = optimizer_over(task, recipe)
    except UsageError as error:
        return f"{error.rule}. {error.hint}" if error.hint else error.rule
    except (ValueError, TypeError) as error:
        return f"{recipe.optimizer}: {error}"
    return _scheduler_problem(recipe, optimizer, probe.steps_per_epoch(recipe.batch_size))


def _scheduler_problem(recipe: Recipe, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> str | None:
    """Why torch refuses a recipe's scheduler over its optimizer, or fails within the run; None if it does not."""
    options, configs = recipe.scheduler_kwargs, recipe.scheduler_configs
    try:
        rates(recipe.scheduler, optimizer, options, configs, recipe.epochs, steps_per_epoch, MOST_STEPS)
    except UsageError as error:
        return str(error)
    except (ValueError, TypeError, ArithmeticError) as error:
        return f"{recipe.scheduler}: {error}"
    return None
