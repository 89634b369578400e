"""Knobs: what the recipe's scheduled values are at each step; constants follow no knob."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tuner.errors import SearchSpaceError, did_you_mean
from tuner.optimizers.options import numeric_options
from tuner.recipe import Recipe
from tuner.timeline import Timeline, parse_timeline

SCHEDULED = ("learning_rate", "gradient_clip")
"""Fields of a recipe, beside those of its sections, that may follow a timeline."""


@dataclass(frozen=True)
class Knobs:
    """Scheduled values by recipe path, over a run of `run_steps` steps.

    `paths` maps a timeline's columns to recipe paths; steps count from 0.
    """

    run_steps: int = 1
    timeline: Timeline | None = None
    paths: Mapping[str, str] = field(default_factory=dict)

    def at(self, step: int) -> dict[str, float]:
        """The scheduled values at a step, by recipe path; what is not scheduled is not in it."""
        if self.timeline is None:
            return {}
        return {self.paths[name]: value for name, value in self.timeline.at(step, self.run_steps).items()}

    def phase(self, step: int) -> str:
        """The timeline's phase at a step; "" without one."""
        return "" if self.timeline is None else self.timeline.phase(step, self.run_steps)

    def actions(self, step: int) -> tuple[str, ...]:
        """The actions that fire before a step, in order."""
        return () if self.timeline is None else self.timeline.actions_at(step, self.run_steps)


def knobs_of(recipe: Recipe, run_steps: int, terms: Iterable[str], properties: Iterable[str]) -> Knobs:
    """The knobs of a recipe whose timeline is written out.

    `terms` are the task's loss terms, `properties` the data options that may be scheduled. Raises
    `SearchSpaceError` for a column that nothing of the recipe is called.
    """
    if recipe.timeline is None:
        return Knobs(run_steps)
    timeline = parse_timeline(recipe.timeline, "recipe.timeline")
    names = schedulable(recipe, terms, properties)
    return Knobs(run_steps, timeline, {column: path_of(column, names) for column in timeline.curves})


def schedulable(recipe: Recipe, terms: Iterable[str], properties: Iterable[str]) -> dict[str, str]:
    """Every name that a timeline's column may have, and the recipe path that it moves: short names and whole paths.

    An optimizer's options are those that hold one number; `momentum` is the first of the betas where there are such.
    """
    paths = [*SCHEDULED]
    paths += [f"optimizer_kwargs.{name}" for name in numeric_options(recipe.optimizer)]
    paths += [f"loss_weights.{name}" for name in terms]
    paths += [f"data.{name}" for name in properties]
    names = {path: path for path in paths}
    for path in paths:
        names.setdefault(path.rpartition(".")[2], path)
    return names


def path_of(column: str, names: Mapping[str, str], place: str = "recipe.timeline") -> str:
    """The recipe path that a timeline's column moves; `SearchSpaceError` with the nearest name."""
    if column not in names:
        raise SearchSpaceError(
            f"'{column}' cannot follow a timeline", place=place, hint=did_you_mean(column, _listed(names))
        )
    return names[column]


def _listed(names: Mapping[str, str]) -> list[str]:
    """The names, short ones only, for a hint."""
    return [name for name, path in names.items() if name == path.rpartition(".")[2]]


def properties_at(knobs: Knobs, values: Mapping[str, float], data: Mapping[str, Any], step: int) -> dict[str, Any]:
    """The task's properties at a step: the recipe's `data`, what is scheduled of it, and the phase."""
    scheduled = {path.removeprefix("data."): value for path, value in values.items() if path.startswith("data.")}
    return {**data, **scheduled, "phase": knobs.phase(step)}
