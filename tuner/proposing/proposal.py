"""Proposals: the next recipe to try, feasible and new where it can be (contracts C2 and C3).

What is proposed for a trial is a function of its number and of the study's records alone, so that a proposal
cut short by a crash is made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import SearchSpaceError, did_you_mean, shorten
from tuner.proposing.blocks import Blocks
from tuner.proposing.draft import Draft
from tuner.proposing.groups import Group, ShapeOf, group_with_room, paths_of_shape
from tuner.proposing.samplers import NumberedQMCSampler, build_sampler, draws_alone, takes_values
from tuner.recipe import Recipe, flatten, parse_recipe
from tuner.search_space.space import SearchSpace
from tuner.search_space.timelines import with_default_keys

ASK_AGAIN = 20
"""How often a proposal equal to an earlier one is asked again."""

ASK_GROUP_AGAIN = 5
"""So many times of them a group's shape is kept; what is new may have another."""

COUNTABLE_COMBINATIONS = 10_000
"""Spaces with more combinations than this are not counted to see whether they are exhausted."""


@dataclass(frozen=True)
class Proposal:
    """What to try as trial `number`: searched `values` by path and the whole `recipe`.

    `infeasible` is the constraint it violates; `duplicate_of` the earlier trial of an equal recipe,
    `unfit` says why values that somebody queued cannot be tried at all.
    """

    number: int
    trial_id: int
    values: Mapping[str, Any]
    recipe: Recipe
    infeasible: str | None = None
    duplicate_of: int | None = None
    unfit: str | None = None


class Proposer:
    """Proposes recipes of a space for the trials of a study.

    With `shape_of`, which gives equal words for recipes that can train as one batched model, it proposes recipes of one
    shape together: `group_size` at most, where the sampler learns from results.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: BaseStorage,
        space: SearchSpace,
        shape_of: ShapeOf | None = None,
        group_size: int = 1,
    ) -> None:
        self.study, self.storage, self.space = study, storage, space
        self.shape_of, self.group_size = shape_of, group_size
        trials = study.get_trials(deepcopy=False)
        self._blocks = Blocks(trials) if shape_of and draws_alone(space.sampler) else None
        grouped = group_size > 1 and takes_values(space.sampler, space.sampler_kwargs)
        self._paths_of_shape = paths_of_shape(space, shape_of) if shape_of and grouped else []
        self._numbers: dict[str, int] = {}
        self._all_cells: set[str] | None = None
        self._cells: Iterator[dict[str, Any]] | None = None
        constraints = [None, *(constraint.text for constraint in space.constraints)]
        for trial in trials:
            if trial.user_attrs.get("infeasible") not in constraints:
                continue  # by a constraint that was loosened since
            if "recipe" in trial.user_attrs and "duplicate_of" not in trial.user_attrs:
                self._numbers.setdefault(recipe_key(trial.user_attrs["recipe"]), trial.number)

    def exhausted(self, size: int | None) -> bool:
        """Whether all `size` combinations of the space (None: more than can be counted) have been proposed."""
        if size is None or len(self._numbers) < size:
            return False
        if self._all_cells is None:
            self._all_cells = {self._key_of(values) for values in self.space.combinations()}
        return self._all_cells <= self._numbers.keys()

    def _key_of(self, values: Mapping[str, Any]) -> str:
        return recipe_key(self.space.recipe_for(values)[0].model_dump())

    def ask(self, wanted: int | None = None) -> Proposal | None:
        """A proposal for a new trial, or None where there is nothing left to propose (a grid at its end).

        `wanted` is how many trials the budget asks for, this one among them; None is no bound.
        It is written in several steps, so a transaction belongs around it.
        """
        if self.space.sampler == "grid" and not self._queue():
            values = self._next_cell()
            return None if values is None else self._written(self._new_trial(), values)
        trial = self._new_trial()
        try:
            return self._written(trial, *self._sample(trial, wanted))
        except ValueError as error:
            if not _is_queued(trial):
                raise
            return Proposal(trial.number, trial._trial_id, {}, self.space.recipe, unfit=str(error))

    def again(self, trial: FrozenTrial) -> Proposal:
        """The whole proposal that a trial with a recipe was started with, be it by plain Optuna."""
        attrs = trial.user_attrs
        values = {
            entry.path: entry.decode(trial.params[entry.path])
            for entry in self.space.parameters
            if entry.path in trial.params
        }
        recipe = parse_recipe(attrs["recipe"])
        return Proposal(
            trial.number,
            trial._trial_id,
            attrs.get("values", values),
            recipe,
            attrs.get("infeasible"),
            attrs.get("duplicate_of"),
        )

    def _queue(self) -> list[FrozenTrial]:
        """Trials that were queued and not yet taken."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))

    def _new_trial(self) -> FrozenTrial:
        """A new trial's row, RUNNING: the next in the queue, or one of its own."""
        self.study.sampler = build_sampler("random", {})
        return self.storage.get_trial(self.study.ask()._trial_id)

    def _sample(self, trial: FrozenTrial, wanted: int | None) -> tuple[dict[str, Any], Draft, dict[str, Any]]:
        """Ask the sampler until its values make a new recipe, `ASK_AGAIN` times more at most.

        Gives the values, the draft that holds them, and what is to be recorded of how they were chosen.
        """
        if _is_queued(trial):
            return *self._draw(trial, trial.number), {}
        draw, group, notes = trial.number, None, {}
        if self._blocks is not None:
            notes["draw"] = self._blocks.deal(trial.number, wanted, lambda draw: self._shape_of_draw(trial, draw))
            draw = notes["draw"]["number"]
        if self._paths_of_shape:
            trials = self.study.get_trials(deepcopy=False)
            group = group_with_room(trials, self._paths_of_shape, self.group_size)
        for attempt in range(1 + ASK_AGAIN):
            group = group if attempt <= ASK_GROUP_AGAIN else None
            values, draft = self._draw(trial, draw, attempt, group)
            if self._key_of(values) not in self._numbers:
                break
        return values, draft, notes | ({} if group is None else {"shape_of": group.opener})

    def _draw(
        self, trial: FrozenTrial, draw: int, attempt: int = 0, group: Group | None = None
    ) -> tuple[dict[str, Any], Draft]:
        """What the sampler gives for a trial whose number is, or is taken to be, `draw`; it joins a group."""
        space, fixed = self.space, encoded(self.space, group.values) if group else None
        sampler = build_sampler(space.sampler, space.sampler_kwargs, space.study_seed, draw, attempt, fixed)
        if isinstance(sampler, NumberedQMCSampler):
            sampler.over = self._distributions(trial)
        self.study.sampler = sampler
        draft = Draft(self.study, trial._trial_id)
        return space.suggest(draft), draft

    def _distributions(self, trial: FrozenTrial) -> Mapping[str, BaseDistribution]:
        """Of the parameters that the default recipe has."""
        self.study.sampler = build_sampler("random", {})
        draft = Draft(self.study, trial._trial_id, told=encoded(self.space, self.space.default_values()[0]))
        self.space.suggest(draft)
        return draft.distributions

    def _shape_of_draw(self, trial: FrozenTrial, draw: int) -> str:
        assert self.shape_of is not None
        return self.shape_of(self.space.recipe_for(self._draw(trial, draw)[0])[0])

    def _next_cell(self) -> dict[str, Any] | None:
        """The first cell of the grid that no trial has."""
        if self._cells is None:
            self._cells = self.space.combinations()
        for values in self._cells:
            if self._key_of(values) not in self._numbers:
                return values
        return None

    def _written(
        self,
        trial: FrozenTrial,
        values: Mapping[str, Any],
        sampled: Draft | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Proposal:
        """Write the proposal."""
        recipe, violated = self.space.recipe_for(values)
        key = recipe_key(recipe.model_dump())
        earlier = self._numbers.get(key)
        write, trial_id = self.storage.set_trial_user_attr, trial._trial_id
        if sampled is not None:
            sampled.keep_attributes()
        for name, note in {"values": dict(values), **(notes or {})}.items():
            write(trial_id, name, note)
        self.study.sampler = build_sampler("random", {})
        draft = Draft(self.study, trial_id, told=encoded(self.space, values))
        self.space.suggest(draft)
        draft.keep_parameters()
        if violated:
            write(trial_id, "infeasible", violated)
        elif earlier is not None:
            write(trial_id, "duplicate_of", earlier)
        write(trial_id, "recipe", recipe.model_dump())
        self._numbers.setdefault(key, trial.number)
        return Proposal(trial.number, trial_id, dict(values), recipe, violated, None if violated else earlier)


def _is_queued(trial: FrozenTrial) -> bool:
    """Whether a trial was queued with values of its own."""
    return "fixed_params" in trial.system_attrs


def encoded(space: SearchSpace, values: Mapping[str, Any]) -> dict[str, Any]:
    """Searched values as Optuna stores them."""
    return {entry.path: entry.encode(values[entry.path]) for entry in space.parameters if entry.path in values}


def enqueue(
    study: optuna.Study,
    space: SearchSpace,
    values: Mapping[str, Any],
    origin: str,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Queue searched values to be tried before anything is sampled; `origin` and `notes` are recorded with it."""
    study.enqueue_trial(encoded(space, values), user_attrs={"enqueued": origin, **(notes or {})})


def check_enqueued(space: SearchSpace, entries: object, place: str) -> list[dict[str, Any]]:
    """Known-good settings, each as the searched values it gives; a value left out is the default recipe's.

    Raises `SearchSpaceError` for a path that is not searched (unless it is the recipe's own value) and for a
    value out of range.
    """
    if isinstance(entries, Mapping):
        entries = [entries]
    if not isinstance(entries, list) or not entries:
        raise SearchSpaceError("must be a list of settings, each {PARAMETER: VALUE}", place=place, value=entries)
    return [_checked_entry(space, entry, f"{place}: [{i}]") for i, entry in enumerate(entries)]


def _checked_entry(space: SearchSpace, entry: object, place: str) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise SearchSpaceError("must be {PARAMETER: VALUE}", place=place, value=entry)
    whole = dict(entry["recipe"] if isinstance(entry.get("recipe"), Mapping) else entry)
    timeline = whole.pop("timeline", None)
    given = {**flatten(whole), **(_timeline_values(space, timeline, place) if timeline is not None else {})}
    searched = {parameter.path: parameter for parameter in space.parameters}
    fixed = space.recipe.with_defaults().flat()
    wanted: dict[str, Any] = {}
    for path, value in given.items():
        if path not in searched:
            if "recipe" in entry or fixed.get(path) == value:
                continue
            raise SearchSpaceError(
                f"'{path}' is not searched", place=place, value=value, hint=did_you_mean(path, searched)
            )
        if not searched[path].contains(value):
            searched_as = shorten({k: v for k, v in searched[path].describe().items() if k != "when"}, 100)
            raise SearchSpaceError(
                "out of the searched range", place=f"{place}.{path}", value=value, hint=f"Searched as {searched_as}"
            )
        wanted[path] = value
    return space.nearest_values(space.recipe.with_values(wanted, place))[0]


def _timeline_values(space: SearchSpace, timeline: Any, place: str) -> dict[str, Any]:
    """The searched timeline that a setting's own is, and its values at the single keys that are searched."""
    recipe = space.recipe.with_values({"timeline": timeline}, place)
    paths = [entry.path for entry in space.parameters if entry.path.startswith("timeline")]
    found = {"timeline": space.timeline_choice(recipe)} if "timeline" in paths else {}
    own = with_default_keys(recipe, space.parameters).timeline
    return found | {
        f"timeline.{key}": value for key, value in (own.items() if isinstance(own, Mapping) else ()) if "@" in key
    }


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """Equal for equal recipes."""
    return json.dumps(recipe, sort_keys=True, default=str)
