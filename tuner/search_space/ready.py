"""Ready recipes: files of recipe values that can be laid over any task's (`--recipe NAME`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.errors import SearchSpaceError, did_you_mean
from tuner.recipe import canonical, parse_recipe
from tuner.search_space.file import bundled_folder, spaces_in
from tuner.search_space.yaml_file import read_yaml

WHOLE = {
    "optimizer": ("optimizer_kwargs",),
    "scheduler": ("scheduler_kwargs", "scheduler_configs"),
    "early_stopping": (),
    "loss_weights": (),
    "lr_multipliers": (),
    "timeline": (),
}
"""What a recipe says the whole of: these sections, and those that belong to a name that it gives."""


def ready_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return spaces_in(bundled_folder() / "recipes")


def ready_recipe(name: str) -> dict[str, Any]:
    """The values of a ready recipe, or of a recipe's file (its `recipe` section where it has one), by path.

    Raises `SearchSpaceError` for an unknown name, and for values that no recipe can have.
    """
    known = ready_recipes()
    is_file = name.endswith((".yaml", ".yml"))
    if not is_file and name not in known:
        raise SearchSpaceError(
            f"there is no recipe '{name}'",
            place="--recipe",
            hint=did_you_mean(name, known) + " One of your own is given as a file: my_recipe.yaml",
        )
    path = Path(name) if is_file else known[name]
    content = read_yaml(path)
    values = content.get("recipe", content) if isinstance(content, Mapping) else content
    if not isinstance(values, Mapping) or not values:
        raise SearchSpaceError("a recipe is a mapping of recipe fields to values", place=str(path), value=values)
    parse_recipe(values, str(path))
    return _by_path(canonical(values, str(path)))


def _by_path(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by path; sections that belong to a given name are whole."""
    whole = {section for name, sections in WHOLE.items() if name in values for section in (name, *sections)}
    found: dict[str, Any] = {section: {} for section in whole if section not in values}
    for name, value in values.items():
        if isinstance(value, Mapping) and name not in whole:
            found.update({f"{name}.{key}": entry for key, entry in value.items()})
        else:
            found[name] = value
    return found
