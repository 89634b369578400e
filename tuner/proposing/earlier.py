"""What a new study can take over from an earlier one: trials of recipes that it would make itself, and settings to try.

A trial is taken over only if the new space makes its very recipe, so that its result is the one it would have there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from tuner.errors import shorten
from tuner.proposing.proposal import encoded, recipe_key
from tuner.recipe import Recipe, flatten, parse_recipe
from tuner.search_space.space import SearchSpace
from tuner.search_space.timelines import with_default_keys

MOST_TRIALS = 1_000
"""So many trials are taken over, the best; each of them costs a learning sampler time at every ask."""

FEW = 5
"""Where fewer complete trials than this can be taken over, so many of the best settings are tried anew."""


@dataclass(frozen=True)
class Setting:
    """An earlier trial's setting in a new space: its searched `values` by path, and the `recipe` that they make.

    `params` and `distributions` are the values as Optuna stores them; `violated` is the constraint it breaks.
    """

    trial: FrozenTrial
    values: Mapping[str, Any]
    recipe: Recipe
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    violated: str | None

    @property
    def key(self) -> str:
        """Equal for equal recipes."""
        return recipe_key(self.recipe.model_dump())


@dataclass
class Earlier:
    """What is taken over: `taken` trials as they are, and `queued` settings to train, best first.

    `others` counts why trials that ended are not among the first, in words.
    """

    taken: list[Setting] = field(default_factory=list)
    queued: list[Setting] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def diverged(self) -> int:
        """How many of those taken diverged."""
        return sum(setting.trial.state == TrialState.PRUNED for setting in self.taken)


def find_earlier(
    trials: Iterable[FrozenTrial], space: SearchSpace, maximize: bool, barrier: str = "", known: Iterable[str] = ()
) -> Earlier:
    """What a study of `space` can take over from `trials`.

    Complete trials are knowledge, and so are diverged ones, for divergence lies in the recipe alone. One that a pruner
    stopped is neither: where it stood says nothing without those that it was compared with, and nobody knows its value.
    `barrier` says in words why no trial can be taken over, whatever its recipe; `known` are the keys of recipes that
    will be tried anyway.
    """
    found = Earlier()
    ended = [trial for trial in trials if _was_trained(trial, found.others)]
    complete = sorted((trial for trial in ended if trial.state == TrialState.COMPLETE), key=_rank(maximize))
    diverged = [trial for trial in ended if trial.state == TrialState.PRUNED]
    keys: set[str] = set()
    for trial in [*complete, *diverged]:
        setting = None if barrier else setting_in(space, trial)
        reason = barrier or _difference(space, trial, setting)
        if not reason and len(found.taken) == MOST_TRIALS:
            reason = f"beyond the best {MOST_TRIALS:,}"
        if reason or setting is None:
            found.others[reason] += 1
        elif setting.key not in keys:
            found.taken.append(setting)
            keys.add(setting.key)
    if len(found.taken) - found.diverged < FEW and space.parameters:
        found.queued = list(_to_queue(complete, space, keys, {*known}))
    return found


def setting_in(space: SearchSpace, trial: FrozenTrial) -> Setting | None:
    """A trial's setting moved to the nearest one of a space; None where the space cannot make any of it."""
    try:
        recipe = parse_recipe(trial.user_attrs["recipe"])
        given = with_default_keys(recipe, space.parameters).flat() | trial.user_attrs.get("values", {})
        wanted = {entry.path: given[entry.path] for entry in space.parameters if entry.path in given}
        if "timeline" in wanted:
            wanted["timeline"] = space.timeline_choice(recipe)
        values = space.nearest_values(space.recipe.with_values(wanted, space.place))[0]
        told = FixedTrial(encoded(space, values))
        values = space.suggest(told)
        made, violated = space.recipe_for(values)
    except ValueError:  # `UsageError` is one, and so is what Optuna raises of a value that is not there
        return None
    return Setting(trial, values, made, told.params, told.distributions, violated)


def _was_trained(trial: FrozenTrial, others: Counter[str]) -> bool:
    """Whether a trial ended with a result of its recipe; where not, why not is counted."""
    attrs = trial.user_attrs
    if "duplicate_of" in attrs or "infeasible" in attrs or trial.state == TrialState.WAITING:
        return False
    if trial.state == TrialState.RUNNING:
        others["still in flight"] += 1
    elif trial.state == TrialState.FAIL:
        others["failed"] += 1
    elif "recipe" not in attrs:
        others["without a recipe"] += 1
    elif trial.state == TrialState.PRUNED and not attrs.get("diverged"):
        others["pruned"] += 1
    else:
        return True
    return False


def _rank(maximize: bool) -> Any:
    """Sorts complete trials, the best first, and of equal ones the earlier."""
    sign = -1.0 if maximize else 1.0
    return lambda trial: (sign * trial.value, trial.number)


def _to_queue(
    complete: Iterable[FrozenTrial], space: SearchSpace, taken: set[str], known: set[str]
) -> Iterator[Setting]:
    """The best settings that the space can make, but for those that are taken over or known."""
    seen: set[str] = set()
    for trial in complete:
        setting = setting_in(space, trial)
        if setting is None or setting.violated or setting.key in seen:
            continue
        seen.add(setting.key)
        if setting.key not in taken | known:
            yield setting
        if len(seen) == FEW:
            return


def _difference(space: SearchSpace, trial: FrozenTrial, setting: Setting | None) -> str:
    """Why the space does not make a trial's recipe, in words; "" where it does."""
    if setting is None:
        return "with values that the search space cannot have"
    was = _plain(parse_recipe(trial.user_attrs["recipe"]).with_defaults())
    now = _plain(setting.recipe)
    if was == now:
        return f"against the constraint {setting.violated}" if setting.violated else ""
    differing = [path for path in sorted({*was, *now}) if was.get(path) != now.get(path)]
    searched = {entry.path for entry in space.parameters}
    within = [path for path in differing if {path, path.partition(".")[0]} & searched]  # a timeline has paths below it
    fixed = [path for path in differing if path not in within and path not in space.derived]
    if fixed:
        value = json.loads(now[fixed[0]]) if fixed[0] in now else "nothing"
        return f"with another value of {fixed[0]} (now {shorten(value, 40)})"
    return f"with {(within or differing)[0]} out of range"


def _plain(recipe: Recipe) -> dict[str, str]:
    """A recipe's values by path, as JSON texts."""
    flat = flatten(recipe.model_dump())
    return {path: json.dumps(value, sort_keys=True, default=str) for path, value in flat.items()}
