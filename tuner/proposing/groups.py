"""Groups: trials that a sampler which learns is asked for together, so that they train as one batched model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tuner.recipe import Recipe
from tuner.search_space.parameter import Parameter, ends
from tuner.search_space.space import SearchSpace

ShapeOf = Callable[[Recipe], str]
"""Gives equal words for recipes that can train as one batched model."""


@dataclass(frozen=True)
class Group:
    """The trial that opened a group, and the searched values by path that whoever joins it shares with it."""

    opener: int
    values: Mapping[str, Any]


def group_with_room(trials: Iterable[FrozenTrial], paths: Iterable[str], size: int) -> Group | None:
    """The group in flight that was opened last, unless `size` trials have been asked for it.

    A function of the study's records: whoever joined a group has its opener's number as `shape_of`. `paths` are
    those of the values that make the shape.
    """
    asked: dict[int, int] = {}
    values: dict[int, Mapping[str, Any]] = {}
    in_flight = set()
    for trial in trials:
        attrs = trial.user_attrs
        opener = attrs.get("shape_of", trial.number)
        asked[opener] = asked.get(opener, 0) + 1
        values.setdefault(opener, attrs.get("values", {}))
        if trial.state == TrialState.RUNNING and "recipe" in attrs and "duplicate_of" not in attrs:
            in_flight.add(opener)
    last = max(in_flight, default=None)
    if last is None or asked[last] >= size:
        return None
    return Group(last, {path: values[last][path] for path in paths if path in values[last]})


def paths_of_shape(space: SearchSpace, shape_of: ShapeOf) -> list[str]:
    """The searched paths that a group has in common; none where nothing else is searched."""
    data = [entry for entry in space.parameters if entry.path.startswith("data.")]
    without = {entry.path for entry in data if not _changes_shape(entry, space, shape_of)}
    paths = space.sources_of(space.shape_paths() - without)
    return sorted(paths) if len(paths) < len(space.parameters) else []


def _changes_shape(parameter: Parameter, space: SearchSpace, shape_of: ShapeOf) -> bool:
    """Whether trials that differ in this parameter have other shapes; a task's properties make none."""
    base = space.default_values()[0]
    return len({shape_of(space.recipe_for({**base, parameter.path: value})[0]) for _, value in ends(parameter)}) > 1
