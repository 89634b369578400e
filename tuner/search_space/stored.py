"""A search space as a study has stored it, ready to be asked again: no file is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.recipe import parse_recipe, value_type
from tuner.search_space.expression import Expression
from tuner.search_space.parameter import parse_parameter
from tuner.search_space.space import SearchSpace


def stored_space(described: Mapping[str, Any], name: str) -> SearchSpace:
    """The space that `SearchSpace.describe` has described, of a task; `name` is the study's, for messages.

    It has no budget, as that stands apart. Raises `SearchSpaceError` where another version described it in another way.
    """
    recipe = parse_recipe(described["recipe"], f"{name}: recipe")
    fixed = recipe.flat()
    parameters = tuple(
        parse_parameter(path, entry, value_type(path, fixed), f"{name}: search.{path}")
        for path, entry in described["search"].items()
    )
    derived = {
        path: Expression.parse(text, f"{name}: derived.{path}") for path, text in described.get("derived", {}).items()
    }
    constraints = [Expression.parse(text, f"{name}: constraints") for text in described.get("constraints", [])]
    plain = ("sampler", "sampler_kwargs", "pruner", "pruner_kwargs", "parallel", "fuse", "study_seed", "timelines")
    return SearchSpace(
        task=described["task"],
        name=name,
        mode=described["mode"],
        metric=described["metric"],
        direction=described["direction"],
        value=described["value"],
        recipe=recipe,
        place=name,
        parameters=parameters,
        derived=derived,
        constraints=tuple(constraints),
        **{key: described[key] for key in plain if key in described},
    )
