"""Names that a search space gives: optimizers, schedulers and their options, conditions on them, the task's options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tuner import optimizers, schedules
from tuner.errors import SearchSpaceError, UsageError, did_you_mean
from tuner.search_space.parameter import Choices, ends, is_number
from tuner.search_space.space import SearchSpace
from tuner.tasks import Task

CheckOptions = Callable[[str, list[str], Callable[[str], str], Mapping[str, Any]], None]


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
                for key, value in ends(parameter):
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


def check_conditions(space: SearchSpace) -> None:
    """Conditions on options of the task, unknown until now, and on names that torch does not have."""
    known = {*space.recipe.flat(), *(entry.path for entry in space.parameters)}
    for parameter in space.parameters:
        for path, allowed in parameter.when.items():
            place = f"{space.where(parameter.path)}.when"
            if path not in known:
                raise SearchSpaceError(f"there is no value '{path}'", place=place, hint=did_you_mean(path, known))
            for value in allowed if path in ("optimizer", "scheduler") else ():
                names = optimizers.names() if path == "optimizer" else schedules.names()
                if value not in (None, "auto") and value not in names:
                    raise SearchSpaceError(
                        f"{path} never takes this value",
                        place=f"{place}.{path}",
                        value=value,
                        hint=did_you_mean(value, names),
                    )


def named(space: SearchSpace, field: str) -> list[tuple[Any, str]]:
    """Every name that `field` can take, with the place that says so."""
    for parameter in space.parameters:
        if parameter.path == field and isinstance(parameter, Choices):
            return [(name, f"{space.where(field)}.choices[{i}]") for i, name in enumerate(parameter.choices)]
    return [(getattr(space.recipe.with_defaults(), field), space.where(field))]


def check_options(
    space: SearchSpace, field: str, name: Any, place: str, known: Mapping[str, Any], check: CheckOptions
) -> None:
    """An optimizer or scheduler must be torch's, and the options that can stand beside it its own."""
    if name == "auto" and field == "scheduler":
        name = "CosineAnnealingLR"
    if name is None:
        return
    if name not in known:
        raise SearchSpaceError(f"there is no {field} '{name}'", place=place, hint=did_you_mean(name, known))
    fixed = getattr(space.recipe, f"{field}_kwargs")
    searched = [
        entry.path.partition(".")[2]
        for entry in space.parameters
        if entry.path.startswith(f"{field}_kwargs.") and name in entry.when.get(field, (name,))
    ]
    try:
        check(name, [*fixed, *searched], lambda option: space.where(f"{field}_kwargs.{option}"), fixed)
    except UsageError as error:
        hint = error.hint
        if " has no option " in error.rule and error.rule.split("'")[1] in searched:
            hint += "" if hint.endswith(("?", ".")) else "."
            hint += f" If it is meant for another {field}, add `when: {{{field}: NAME}}`."
        raise SearchSpaceError(error.rule, place=error.place, value=error.value, hint=hint) from None
