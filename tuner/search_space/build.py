"""Builds the search space of one mode from its file, checking everything that needs neither torch nor the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.errors import SearchSpaceError, UsageError, did_you_mean
from tuner.recipe import Recipe, canonical, check_path, closed_sections, flatten, parse_recipe, value_type
from tuner.search_space.expression import Expression
from tuner.search_space.file import Mode, Places, SpaceFile, Target, bundled_folder, override_mode, read_mode
from tuner.search_space.parameter import Parameter, ends, parse_parameter
from tuner.search_space.ready import ready_recipe
from tuner.search_space.settings import parse_duration
from tuner.search_space.space import Budget, SearchSpace
from tuner.search_space.timelines import candidates, files_in, read_files, with_default_keys, written_out

OBJECTIVE_TRIALS = 20
"""The budget of an objective function for which no search space gives one."""


def build_space(
    target: Target,
    mode_name: str,
    settings: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    **overrides: Any,
) -> SearchSpace:
    """The search space that a target's mode describes.

    `recipe` names a ready recipe, whose values are fixed; `settings` fix recipe values (`--set`): a searched value
    that is set is no longer searched. `overrides` replace keys of the mode (`sampler`, `trials`, ...; None leaves
    the mode's own).
    Raises `SearchSpaceError` at the first thing that cannot be.
    """
    changed = {key: value for key, value in overrides.items() if value is not None}
    places = Places(target.place, mode_name, frozenset(changed))
    missing = target.function is not None and mode_name not in target.file.modes
    mode = Mode() if missing else read_mode(target.file, mode_name, target.place)
    mode = override_mode(mode, changed, places)
    if target.function:
        _check_objective_mode(mode, {**({"recipe": recipe} if recipe else {}), **(settings or {})}, places)
    elif mode.sampler != "grid" and mode.trials is None and mode.time is None:
        raise SearchSpaceError("a mode needs a budget: give trials or time", place=f"{target.place}: modes.{mode_name}")
    space = _laid(_space_of(target, mode, places), recipe, settings)
    check_names(space)
    if space.sampler == "grid":
        next(space.combinations(), None)
    return space


def plain_space(target: Target, settings: Mapping[str, Any] | None = None, recipe: str | None = None) -> SearchSpace:
    """A target's recipe with nothing searched; a ready recipe and then `settings` replace its values."""
    if target.function:
        raise UsageError("an objective function has no recipe to train", value=f"{target.task}:{target.function}")
    return _laid(_space_of(target, Mode(trials=1), Places(target.place, "")), recipe, settings)


def _laid(space: SearchSpace, recipe: str | None, settings: Mapping[str, Any] | None) -> SearchSpace:
    """The space with a ready recipe's values and then `settings` fixed, and its timelines read."""
    if recipe is not None:
        space = fix(space, ready_recipe(recipe), f"--recipe {recipe}")
    return _with_timelines(fix(space, settings or {}, "--set"))


def _with_timelines(space: SearchSpace) -> SearchSpace:
    """The space with the files of its timelines read, and its own recipe's timeline written out."""
    is_searched = any(entry.path == "timeline" for entry in space.parameters)
    for path, place in space.origins.items():
        if is_searched and path.startswith("timeline.") and "@" in path and place.startswith("--"):
            rule = "the timeline is searched, and each of its choices has keys of its own"
            raise SearchSpaceError(rule, place=place, hint="Give --set timeline=FILE too.")
    every = candidates(space.recipe, space.parameters)
    folders = (Path(space.place).parent, Path(), bundled_folder())
    files = read_files([space.recipe.timeline, *every], space.where("timeline"), folders)
    recipe = written_out(space.recipe, files, space.where("timeline"))
    recipe = with_default_keys(recipe, space.parameters)
    searched = {name: files[name] for name in files_in(every)} if is_searched else {}
    space = replace(space, recipe=recipe, timelines=searched)
    for parameter in space.parameters:
        if parameter.path.startswith("timeline."):
            allowed = parameter.when.get("timeline", every)
            _check_key(space, parameter, [{"timeline": entry} for entry in allowed] if is_searched else [{}])
    return space


def _check_key(space: SearchSpace, parameter: Parameter, timelines: Sequence[Mapping[str, Any]]) -> None:
    """A searched key must be one that every timeline of the space can have."""
    place = space.where(parameter.path)
    for timeline in timelines:
        for key, value in ends(parameter):
            try:
                recipe = space.recipe.with_values({**timeline, parameter.path: value})
                written_out(recipe, space.timelines, place)
            except SearchSpaceError as error:
                raise SearchSpaceError(error.rule, place=f"{place}.{key}", value=value, hint=error.hint) from None


def _space_of(target: Target, mode: Mode, places: Places) -> SearchSpace:
    file, place = target.file, target.place
    base = _base_recipe(file, mode, places)
    parameters = _parameters(mode, base, places)
    _check_conditions(parameters, base, places)
    constraints = (Expression.parse(text, places.of(f"constraints[{i}]")) for i, text in enumerate(mode.constraints))
    return SearchSpace(
        task=target.task,
        name=target.name,
        mode=places.mode or "train",
        metric=file.metric,
        direction=file.direction or _direction(file.metric),
        value=file.value,
        recipe=base,
        place=place,
        parameters=_in_order(parameters, places),
        derived=_derived(mode, places),
        constraints=tuple(constraints),
        sampler=mode.sampler,
        sampler_kwargs=mode.sampler_kwargs,
        pruner=mode.pruner or "none",
        pruner_kwargs=mode.pruner_kwargs,
        budget=_budget(mode, target, places),
        parallel=mode.parallel or 1,
        parallel_by_rule=mode.parallel is None,
        fuse=mode.fuse,
        retries=mode.retries,
        study_seed=mode.study_seed,
        function=target.function,
        expect=None if file.expect is None else file.expect.model_dump(exclude_none=True),
        origins=_origins(mode, places),
    )


def _origins(mode: Mode, places: Places) -> dict[str, str]:
    """The place of every recipe value that the mode says, and of the mode's own keys."""
    found = {path: places.of(f"recipe.{path}") for path in [*mode.recipe, *flatten(mode.recipe)]}
    found |= {path: places.of(f"search.{path}") for path in mode.search}
    found |= {path: places.of(f"derived.{path}") for path in mode.derived}
    return found


def _check_objective_mode(mode: Mode, settings: Mapping[str, Any] | None, places: Places) -> None:
    """An objective function brings its own search space, and runs one trial at a time."""
    for key in ("search", "derived", "constraints", "recipe"):
        if getattr(mode, key):
            raise SearchSpaceError("an objective function suggests its own values", place=places.of(key))
    if mode.parallel is not None and mode.parallel > 1:
        raise SearchSpaceError(
            "an objective function runs one trial at a time", place=places.of("parallel"), value=mode.parallel
        )
    if mode.sampler == "grid":
        raise SearchSpaceError(
            "an objective function suggests its own values: no grid is known", place=places.of("sampler")
        )
    if settings:
        raise UsageError("an objective function has no recipe", place="--set", value=dict(settings))


def fix(space: SearchSpace, settings: Mapping[str, Any], place: str) -> SearchSpace:
    """The space with recipe values fixed: what is set is no longer searched or derived."""
    if not settings:
        return space
    values = canonical(settings, place)
    sections = {path.partition(".")[0] for path in values}
    dropped = {
        path for path in ("loss", "loss_weights") if {"loss", "loss_weights"} & sections and path not in sections
    }
    if "loss" in values and space.recipe.loss_weights:
        values["loss_weights"] = {}
    elif any(path.startswith("loss_weights") for path in values) and space.recipe.loss:
        values["loss"] = None
    if "scheduler" in values and values["scheduler"] is None:
        dropped.add("scheduler_kwargs")  # there is nothing that could take them
    return replace(
        space,
        recipe=space.recipe.with_values(values, place),
        origins={**space.origins, **{path: f"{place} {path}" for path in values}},
        parameters=tuple(
            entry
            for entry in space.parameters
            if entry.path not in values
            and entry.path.partition(".")[0] not in dropped
            and (entry.path.partition(".")[0] not in values or entry.path.startswith("timeline."))
        ),
        derived={
            path: entry
            for path, entry in space.derived.items()
            if path not in values and path.partition(".")[0] not in values
        },
    )


def _base_recipe(file: SpaceFile, mode: Mode, places: Places) -> Recipe:
    base = parse_recipe(file.recipe, f"{places.file}: recipe")
    given = canonical(mode.recipe, places.of("recipe"))
    whole = {path: value for path, value in given.items() if path == "timeline" or value == {}}
    opened = flatten({path: value for path, value in given.items() if path not in whole})
    return base.with_values({**opened, **whole}, places.of("recipe"))


def _direction(metric: str) -> str:
    """The direction that a metric's name says, or "" (see `resolve`, which knows whether there is such a metric)."""
    if "loss" in metric or "error" in metric:
        return "minimize"
    return "maximize" if "accuracy" in metric else ""


def _parameters(mode: Mode, base: Recipe, places: Places) -> dict[str, Parameter]:
    fixed = base.flat()
    found: dict[str, Parameter] = {}
    for path, entry in canonical(mode.search, places.of("search")).items():
        place = places.of(f"search.{path}")
        check_path(path, place)
        section = "." not in path and path != "timeline" and isinstance(getattr(base, path), dict)
        if path in closed_sections() or section:
            raise SearchSpaceError("search one of its values: SECTION.NAME", place=place, value=entry)
        parameter = parse_parameter(path, entry, value_type(path, fixed), place)
        _check_values(parameter, base, place)
        found[path] = parameter
    weighted = next((path for path in found if path.startswith("loss_weights.")), None)
    if base.loss and weighted:
        raise SearchSpaceError(
            "`loss: NAME` is short for `loss_weights: {NAME: 1}`: give one of the two",
            place=places.of(f"search.{weighted}"),
            value=base.loss,
        )
    if "loss" in found and (base.loss_weights or any(path.startswith("loss_weights.") for path in found)):
        raise SearchSpaceError(
            "`loss: NAME` is short for `loss_weights: {NAME: 1}`: search one of the two",
            place=places.of("search.loss"),
        )
    return found


def _check_values(parameter: Parameter, base: Recipe, place: str) -> None:
    """Every choice, or both ends of a range, must make a valid recipe."""
    unweighted = base.model_copy(update={"loss": None}) if parameter.path.startswith("loss_weights.") else base
    for key, value in ends(parameter):
        try:
            unweighted.with_values({parameter.path: value}, "")
        except SearchSpaceError as error:
            raise SearchSpaceError(error.rule, place=f"{place}.{key}", value=value, hint=error.hint) from None


def _check_conditions(parameters: Mapping[str, Parameter], base: Recipe, places: Places) -> None:
    fixed = base.flat()
    for parameter in parameters.values():
        for path, allowed in parameter.when.items():
            place = places.of(f"search.{parameter.path}.when.{path}")
            parent = parameters.get(path)
            if parent is None:
                if path not in fixed and not path.startswith(("model.", "data.")):
                    raise SearchSpaceError(
                        f"there is no value '{path}'",
                        place=place,
                        hint=did_you_mean(path, {*parameters, *fixed}),
                    )
                continue
            for value in allowed:
                if not parent.contains(value):
                    raise SearchSpaceError(
                        f"{path} never takes this value",
                        place=place,
                        value=value,
                        hint=did_you_mean(value, parent.describe().get("choices", [])),
                    )


def _in_order(parameters: Mapping[str, Parameter], places: Places) -> tuple[Parameter, ...]:
    """Parameters so that each stands behind those its conditions name; otherwise as written."""
    placed: dict[str, Parameter] = {}
    waiting = dict(parameters)
    while waiting:
        ready = [path for path, entry in waiting.items() if not any(parent in waiting for parent in entry.when)]
        if not ready:
            circle = _circle(
                {path: [parent for parent in entry.when if parent in waiting] for path, entry in waiting.items()}
            )
            raise SearchSpaceError(
                "conditions refer to each other in a circle: " + " -> ".join(circle),
                place=places.of(f"search.{circle[0]}.when"),
            )
        placed[ready[0]] = waiting.pop(ready[0])
    return tuple(placed.values())


def _circle(needs: Mapping[str, list[str]]) -> list[str]:
    """One circle in a graph in which every node needs another."""
    trail = [next(iter(needs))]
    while trail[-1] not in trail[:-1]:
        trail.append(needs[trail[-1]][0])
    return trail[trail.index(trail[-1]) :]


def _derived(mode: Mode, places: Places) -> dict[str, Expression]:
    """Derived values in an order in which each needs only earlier ones."""
    given = canonical(mode.derived, places.of("derived"))
    written = {path: Expression.parse(text, places.of(f"derived.{path}")) for path, text in given.items()}
    for path in written:
        place = places.of(f"derived.{path}")
        check_path(path, place)
        if path in mode.search:
            raise SearchSpaceError("a value is either searched or derived", place=place)
    placed: dict[str, Expression] = {}
    waiting = dict(written)
    while waiting:
        ready = [path for path, entry in waiting.items() if not any(name in waiting for name in entry.names())]
        if not ready:
            circle = _circle(
                {path: [name for name in entry.names() if name in waiting] for path, entry in waiting.items()}
            )
            raise SearchSpaceError(
                "derived values need each other in a circle: " + " -> ".join(circle),
                place=places.of(f"derived.{circle[0]}"),
            )
        placed[ready[0]] = waiting.pop(ready[0])
    return placed


def check_names(space: SearchSpace, task_known: bool = False) -> None:
    """Raise `SearchSpaceError` for a name in derived values or constraints that no recipe of the space has.

    Names within `model` and `data` are known only when the task's options are (`task_known`).
    """
    known = {*space.recipe.flat(), *(entry.path for entry in space.parameters), *space.derived}
    for expression in [*space.derived.values(), *space.constraints]:
        for name in expression.names():
            if (task_known or not name.startswith(("model.", "data."))) and name not in known:
                expression.check_names(known)


def _budget(mode: Mode, target: Target, places: Places) -> Budget:
    seconds = None if mode.time is None else parse_duration(mode.time, places.of("time"))
    trials = mode.trials
    if target.function and trials is None and seconds is None:
        trials = OBJECTIVE_TRIALS
    return Budget(trials, seconds, mode.stop_without_improvement)
