"""Timelines of a search space: their files are read once, and every recipe carries its timeline written out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.errors import SearchSpaceError
from tuner.recipe import TIMELINE_KEYS, Recipe
from tuner.search_space.parameter import Choices, Parameter
from tuner.timeline import parse_timeline

PREFIX = "timeline."


def files_in(timelines: Sequence[Any]) -> Iterator[str]:
    """The files that timelines name: a text, or a mapping's `file`."""
    for timeline in timelines:
        name = timeline.get("file") if isinstance(timeline, Mapping) else timeline
        if isinstance(name, str):
            yield name


def read_files(timelines: Sequence[Any], place: str, folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """The timelines that files hold, written out, by the file's name as given.

    Raises `SearchSpaceError` where one is missing or says something impossible.
    """
    return {name: parse_timeline(name, place, folders).describe() for name in files_in(timelines)}


def candidates(recipe: Recipe, parameters: Sequence[Parameter]) -> list[Any]:
    """Every timeline that a recipe of the space can have."""
    searched = next((entry for entry in parameters if entry.path == "timeline"), None)
    return list(searched.choices) if isinstance(searched, Choices) else [recipe.timeline]


def written_out(recipe: Recipe, files: Mapping[str, Mapping[str, Any]], place: str) -> Recipe:
    """The recipe with its timeline's rows in place of its file, single keys taken up into them."""
    if recipe.timeline is None:
        return recipe
    given = {"file": recipe.timeline} if isinstance(recipe.timeline, str) else dict(recipe.timeline)
    if "file" in given and "keyframes" not in given:
        given = {**files[given.pop("file")], **given}
    if "keyframes" not in given:
        key = next((name for name in given if name not in TIMELINE_KEYS), None)
        rule = f"there is no timeline whose '{key}' could be set" if key else "a timeline needs a file or keyframes"
        raise SearchSpaceError(rule, place=place, hint="Give timeline: FILE.csv, or its keyframes.")
    return recipe.model_copy(update={"timeline": parse_timeline(given, place).describe()})


def with_default_keys(recipe: Recipe, parameters: Sequence[Parameter]) -> Recipe:
    """The recipe with every searched key at the value that its own timeline has there, as far as it has one."""
    keys = [entry.path.removeprefix(PREFIX) for entry in parameters if entry.path.startswith(PREFIX)]
    if not keys or not isinstance(recipe.timeline, Mapping):
        return recipe
    timeline = parse_timeline(recipe.timeline, "recipe.timeline")
    found = {}
    for key in keys:
        name, _, step = key.rpartition("@")
        if name in timeline.curves and step.isdigit():
            found[key] = timeline.curves[name].at(float(step))
    return recipe.model_copy(update={"timeline": {**recipe.timeline, **found}})
