"""SearchSpace: one mode of a search space, ready to be asked for recipes."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.errors import SearchSpaceError
from tuner.recipe import Recipe
from tuner.search_space.expression import Expression
from tuner.search_space.parameter import IntRange, Parameter, Suggests
from tuner.search_space.timelines import written_out

SHAPES = re.compile(r"(batch_size|precision)$|(model|data)\.")
"""Paths that change the shapes or the code of a model or its batches (of `data`, a task's properties do not)."""

WHERE_A_RUN_ENDS = ("epochs", "early_stopping")
"""Paths that say where a run ends, and nothing of what it does until then."""


@dataclass(frozen=True)
class Budget:
    """When a study ends: trials and seconds over all runs together, or trials without improvement."""

    trials: int | None = None
    seconds: float | None = None
    stop_without_improvement: int | None = None


@dataclass(frozen=True)
class SearchSpace:
    """A task, a recipe, and what of the recipe is searched and how.

    `parameters` stand in an order in which conditions refer only to earlier ones; `timelines` are the contents of
    the files that a searched timeline names. `parallel_by_rule` says that nobody gave `parallel`: a search has as many
    trials in flight as `rounds.width` says. `fuse` is `auto`, `off`, or the size of a batched model.
    """

    task: str
    name: str
    mode: str
    metric: str
    direction: str
    value: str
    recipe: Recipe
    place: str
    parameters: tuple[Parameter, ...] = ()
    derived: Mapping[str, Expression] = field(default_factory=dict)
    constraints: tuple[Expression, ...] = ()
    sampler: str = "tpe"
    sampler_kwargs: Mapping[str, Any] = field(default_factory=dict)
    pruner: str = "none"
    pruner_kwargs: Mapping[str, Any] = field(default_factory=dict)
    budget: Budget = Budget()
    parallel: int = 1
    parallel_by_rule: bool = False
    fuse: str | int = "auto"
    retries: int = 0
    study_seed: int = 0
    function: str | None = None
    expect: Mapping[str, Any] | None = None
    timelines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def maximize(self) -> bool:
        """Whether higher is better."""
        return self.direction == "maximize"

    def where(self, path: str) -> str:
        """The place that says the value at `path`: the recipe, the mode, or the command line."""
        section = path.partition(".")[0]
        within = (place for key, place in self.origins.items() if key.startswith(f"{path}.") and place.startswith("--"))
        said = self.origins.get(path) or self.origins.get(section) or next(within, None)
        return said or f"{self.place}: recipe.{path}"

    def about(self) -> dict[str, Any]:
        """What a recipe's file says beside the recipe; a task's file by its whole path."""
        task = Path(self.task).resolve().as_posix() if self.task.endswith(".py") else self.task
        return {"task": task, "metric": self.metric, "direction": self.direction, "value": self.value}

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Ask an Optuna trial for every active parameter: recipe values by path."""
        values: dict[str, Any] = {}
        fixed = self.recipe.with_defaults().flat()
        for parameter in self.parameters:
            if is_active(parameter, values, fixed):
                values[parameter.path] = parameter.suggest(trial)
        return values

    def recipe_for(self, values: Mapping[str, Any]) -> tuple[Recipe, str | None]:
        """The recipe for searched values, derived values filled in, and the first constraint it violates.

        What rests on a value that is not active here says nothing: such a value is not derived, such a
        constraint holds.
        """
        recipe = self.recipe.with_values(values, self.place)
        idle = {entry.path for entry in self.parameters if entry.path not in values} - recipe.flat().keys()
        for path, expression in self.derived.items():
            if idle.intersection(expression.names()):
                idle.add(path)
                continue
            derived = expression.evaluate(recipe.with_defaults().flat())
            recipe = recipe.with_values({path: derived}, expression.place)
        full = written_out(recipe, self.timelines, self.where("timeline")).with_defaults()
        for constraint in self.constraints:
            if not idle.intersection(constraint.names()) and not constraint.evaluate(full.flat()):
                return full, constraint.text
        return full, None

    def default_values(self) -> tuple[dict[str, Any], list[str]]:
        """The searched values nearest to the default recipe, and the paths that had to be moved into range."""
        return self.nearest_values(self.recipe)

    def nearest_values(self, recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
        """The searched values nearest to `recipe`, and the paths whose values had to be moved into range."""
        fixed = recipe.with_defaults().flat()
        values: dict[str, Any] = {}
        moved: list[str] = []
        for parameter in self.parameters:
            if not is_active(parameter, values, fixed):
                continue
            default = fixed.get(parameter.path, 1.0 if parameter.path.startswith("lr_multipliers.") else None)
            if parameter.path == "timeline":
                default = self.timeline_choice(recipe)
            values[parameter.path] = parameter.nearest(default)
            if default is not None and values[parameter.path] != default:
                moved.append(parameter.path)
        return values, moved

    def timeline_choice(self, recipe: Recipe) -> Any:
        """The searched timeline that `recipe` has, or its own where none of them is it."""
        parameter = next(entry for entry in self.parameters if entry.path == "timeline")
        own = written_out(recipe, self.timelines, self.place).timeline
        choices = parameter.values() or []
        for choice in choices:
            candidate = recipe.model_copy(update={"timeline": choice})
            if written_out(candidate, self.timelines, self.place).timeline == own:
                return choice
        name = own.get("name") if isinstance(own, Mapping) else None  # single keys may have been set anew
        return name if name in choices else own

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every feasible combination of searched values in grid order (see `in_grid_order`), the last fastest.

        Raises `SearchSpaceError` where a parameter has infinitely many values.
        """
        for parameter in self.parameters:
            if parameter.values() is None:
                raise SearchSpaceError(
                    "a grid needs finitely many values: give choices, or a step", place=self.where(parameter.path)
                )
        for values in self._branches():
            if not self.constraints or self.recipe_for(values)[1] is None:
                yield values

    def _branches(self) -> Iterator[dict[str, Any]]:
        return _branches(self.in_grid_order(), {}, self.recipe.with_defaults().flat())

    def in_grid_order(self) -> list[Parameter]:
        """The parameters as a grid nests them: those that shapes depend on outermost, those that say where a run ends
        innermost, otherwise as written. So trials asked one behind the other can train as one batched model, and those
        that differ only in where they end can share a training.
        """
        outer = self.sources_of(self.shape_paths())
        inner = {entry.path for entry in self.parameters if entry.path.startswith(WHERE_A_RUN_ENDS)}
        inner -= self.sources_of({entry.path for entry in self.parameters} - inner)
        return sorted(self.parameters, key=lambda entry: (entry.path not in outer, entry.path in inner))

    def shape_paths(self) -> set[str]:
        """The searched and derived paths that may change the shapes or the code of a model."""
        return {path for path in {*(entry.path for entry in self.parameters), *self.derived} if SHAPES.match(path)}

    def sources_of(self, paths: set[str]) -> set[str]:
        """The searched among `paths`, and the searched paths that they are derived from or conditional on."""
        searched = {entry.path: set(entry.when) for entry in self.parameters}
        needed = searched | {path: set(expression.names()) for path, expression in self.derived.items()}
        found: set[str] = set()
        while paths - found:
            found |= paths
            paths = set().union(*(needed.get(path, set()) for path in paths))
        return found & searched.keys()

    def size(self, limit: int = 10_000) -> int | None:
        """The number of feasible combinations; None where it is infinite or above `limit`."""
        product = self.product()
        conditional = any(parameter.when for parameter in self.parameters)
        if product is None or (product > limit and not conditional):
            return None
        if not self.constraints and not conditional:
            return product
        cells = list(itertools.islice(self._branches(), limit + 1))
        if len(cells) > limit:
            return None
        return sum(self.recipe_for(values)[1] is None for values in cells) if self.constraints else len(cells)

    def product(self) -> int | None:
        """The most combinations there can be, conditions and constraints left aside; None where it is infinite."""
        lists = [parameter.values() for parameter in self.parameters]
        if self.function or any(values is None for values in lists):
            return None
        return math.prod(len(values) for values in lists if values is not None)

    def most_epochs(self) -> int:
        """The most epochs that any recipe of this space asks for."""
        searched = next((entry for entry in self.parameters if entry.path == "epochs"), None)
        if isinstance(searched, IntRange):
            return searched.high
        return max(searched.values() or [1]) if searched else self.recipe.epochs

    def searched(self, section: str) -> list[str]:
        """The searched paths that are `section` or lie within it."""
        return [entry.path for entry in self.parameters if entry.path.partition(".")[0] == section]

    def describe(self) -> dict[str, Any]:
        """All that decides a study's trials, as plain values (contract C11); the budget stands apart."""
        return {
            "task": self.task if self.function is None else f"{self.task}:{self.function}",
            "mode": self.mode,
            "metric": self.metric,
            "direction": self.direction,
            "value": self.value,
            "recipe": self.recipe.model_dump(),
            "search": {entry.path: entry.describe() for entry in self.parameters},
            "derived": {path: expression.text for path, expression in self.derived.items()},
            "constraints": [expression.text for expression in self.constraints],
            "sampler": self.sampler,
            "sampler_kwargs": dict(self.sampler_kwargs),
            "pruner": self.pruner,
            "pruner_kwargs": dict(self.pruner_kwargs),
            "parallel": self.parallel,
            "fuse": "off" if self.fuse == "off" else "auto",
            "study_seed": self.study_seed,
            **({"timelines": dict(self.timelines)} if self.timelines else {}),
        }


def is_active(parameter: Parameter, values: Mapping[str, Any], fixed: Mapping[str, Any]) -> bool:
    """Whether all of a parameter's conditions hold for the values chosen so far and the fixed recipe."""
    for path, allowed in parameter.when.items():
        if path in values:
            actual = values[path]
        elif path in fixed:
            actual = fixed[path]
        else:
            return False
        if actual not in allowed:
            return False
    return True


def _branches(
    order: Sequence[Parameter], values: Mapping[str, Any], fixed: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Every way to go on from `values` through the parameters in `order`."""
    if not order:
        yield dict(values)
        return
    parameter, rest = order[0], order[1:]
    if not is_active(parameter, values, fixed):
        yield from _branches(rest, values, fixed)
        return
    for value in parameter.values() or []:
        yield from _branches(rest, {**values, parameter.path: value}, fixed)
