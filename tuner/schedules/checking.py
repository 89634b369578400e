"""Checks of a scheduler's options before anything is built: names, kinds, expressions, schedulers within others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tuner.errors import SearchSpaceError, UsageError, did_you_mean
from tuner.registry import check_arguments
from tuner.schedules.catalog import COMPOSED, EXPRESSIONS, is_plateau, names
from tuner.schedules.factors import factors
from tuner.schedules.lengths import AUTO, autos, fillers

RESERVED = {"optimizer": "the recipe's optimizer", "last_epoch": "the run itself", "scale_fn": "mode and gamma"}


def check(
    name: str, options: Iterable[str], where: Callable[[str], str], values: Mapping[str, Any] | None = None
) -> None:
    """Raise `UsageError` for an option that the scheduler `name` does not take, or a required one left out.

    `options` are the names given, `where` gives an option's place, `values` those that are fixed, which are
    checked in kind: expressions, milestones, and schedulers within `schedulers`, to any depth.
    """
    given = list(options)
    check_arguments(names()[name], [*given, *(key for key in fillers(name) if key not in given)], where, RESERVED)
    _check_one_cycle(name, given, where)
    for option, value in (values or {}).items():
        _check_value(name, option, value, where(option))
    if name == "SequentialLR" and values and isinstance(values.get("schedulers"), list) and "milestones" in values:
        _check_number_of_milestones(values, where("milestones"))


def _check_one_cycle(name: str, given: list[str], where: Callable[[str], str]) -> None:
    """torch takes `epochs` and `steps_per_epoch` together, or neither; one alone it would ignore."""
    pair = ("epochs", "steps_per_epoch")
    lone = [option for option in pair if option in given]
    if name == "OneCycleLR" and len(lone) == 1 and "total_steps" not in given:
        other = pair[1 - pair.index(lone[0])]
        raise UsageError(f"OneCycleLR needs '{other}' beside '{lone[0]}'", place=where(lone[0]))


def _check_value(name: str, option: str, value: Any, place: str) -> None:
    if value == AUTO:
        if option not in autos(name) and not (is_plateau(name) and option == "mode"):
            may = ", ".join(autos(name))
            hint = f"auto is for: {may}" if may else ""
            raise SearchSpaceError(f"{name} needs a value of its own here", place=place, value=value, hint=hint)
    elif name in EXPRESSIONS and option == "lr_lambda":
        factors(value, place)
    elif option == "milestones":
        _check_milestones(value, place, increasing=name == "SequentialLR")
    elif name in COMPOSED and option == "schedulers":
        _check_parts(name, value, place)


def _check_milestones(value: Any, place: str, increasing: bool) -> None:
    if not isinstance(value, list) or not all(type(entry) is int and entry > 0 for entry in value):
        raise SearchSpaceError("must be a list of whole numbers, each at least 1", place=place, value=value)
    if increasing and sorted(set(value)) != value:
        raise SearchSpaceError("must be in increasing order", place=place, value=value)


def _check_number_of_milestones(values: Mapping[str, Any], place: str) -> None:
    parts, milestones = values["schedulers"], values["milestones"]
    if len(milestones) != len(parts) - 1:
        rule = f"must be one fewer than the schedulers, of which there are {len(parts)}"
        raise SearchSpaceError(rule, place=place, value=milestones)


def _check_parts(name: str, parts: Any, place: str) -> None:
    rule = "must be a list of schedulers, such as [{scheduler: LinearLR, total_iters: 5}, ...]"
    if not isinstance(parts, list) or not parts:
        raise SearchSpaceError(rule, place=place, value=parts)
    for number, part in enumerate(parts):
        _check_part(name, number, part, f"{place}[{number}]")


def _check_part(name: str, number: int, part: Any, place: str) -> None:
    """A scheduler within another, its options checked like those of any."""
    if not isinstance(part, Mapping):
        rule = "must be a mapping of a scheduler's name and its options: {scheduler: LinearLR, total_iters: 5}"
        raise SearchSpaceError(rule, place=place, value=part)
    inner = part.get("scheduler")
    if inner is None:
        raise SearchSpaceError("needs 'scheduler', the part's name", place=place, value=dict(part))
    if not isinstance(inner, str) or inner not in names():
        hint = did_you_mean(inner, names())
        raise SearchSpaceError(f"there is no scheduler '{inner}'", place=f"{place}.scheduler", hint=hint)
    _check_fits(name, number, inner, f"{place}.scheduler")
    options = {str(key): value for key, value in part.items() if key != "scheduler"}
    check(inner, options, lambda option: f"{place}.{option}", options)


def _check_fits(name: str, number: int, inner: str, place: str) -> None:
    """What torch cannot compose, or composes to something else than it says."""
    why = ""
    if is_plateau(inner):
        why = "which needs a metric at every step"
    elif name == "SequentialLR" and inner in COMPOSED:
        why = "which torch cannot start at a milestone; list its parts instead"
    elif name == "ChainedScheduler" and inner == "SequentialLR" and number:
        why = "unless it is the first: it would undo the start of those before it"
    if why:
        raise SearchSpaceError(f"{name} cannot hold {inner} here, {why}", place=place)
