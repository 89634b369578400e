"""Is the winner real: the best settings of a study, trained again over fresh seeds and scored on a test split.

The best value of a search is the best of many draws, and so is better than what its setting gives in the mean; the
more trials, the more so. Fresh seeds were not chosen by anything: their mean is what the setting gives.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.analysis.significance import LevelMean, Tested, compare_pairs, holm, level_mean
from tuner.storage.studies import Studies

SEEDS = ("seed", "data_seed", "dropout_seed")
"""What of a recipe a fresh seed replaces."""

SUFFIX = "-confirm"

CONFIRMS, TEST = "confirms", "test"
"""User attributes: what a study or a trial confirms, and a trial's scores on the test split."""


@dataclass(frozen=True)
class SeedRun:
    """A setting trained with one fresh seed, as trial `trial` of the confirming study.

    `state` is complete, diverged, failed, pruned, or unfinished; `value` the study's metric, None unless complete;
    `test` the test split's scores by name, empty where there is none.
    """

    seed: int
    trial: int
    state: str
    value: float | None
    test: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A setting of the search, and what became of it over fresh seeds.

    `searched` is the value of its trial `trial` in the search. `validation` and `test` are the means of the study's
    metric over fresh seeds, on each split. `optimism` is how much better the search's value was than the validation's
    mean, `test_optimism` than the test's: above 0 the search promised too much, whatever the direction.
    `against_winner` is the winner less this one on validation, a paired t test over the seeds that both have;
    `p_adjusted` its p-value adjusted for the number of pairs of candidates (Holm), as the winner is chosen by them.
    """

    trial: int
    searched: float
    runs: tuple[SeedRun, ...]
    validation: LevelMean
    test: LevelMean
    optimism: float | None
    test_optimism: float | None
    against_winner: Tested | None = None
    p_adjusted: float | None = None

    @property
    def ended_otherwise(self) -> tuple[SeedRun, ...]:
        """Runs that ended without a value."""
        return tuple(run for run in self.runs if run.state not in ("complete", "unfinished"))


@dataclass(frozen=True)
class Confirmation:
    """The candidates, best in the search first; `winner` is the trial of the one that is best over fresh seeds.

    `test_metric` is None where nothing was scored on a test split. `optimism` and `test_optimism` are means over the
    candidates. `unfinished` counts runs that are still to be trained.
    """

    study: str
    confirmed_in: str
    metric: str
    test_metric: str | None
    direction: str
    candidates: tuple[Candidate, ...]
    winner: int | None
    optimism: float | None
    test_optimism: float | None
    unfinished: int

    def candidate(self, trial: int | None) -> Candidate | None:
        """The candidate that is trial `trial` of the search."""
        return next((entry for entry in self.candidates if entry.trial == trial), None)


def confirming_name(study: str) -> str:
    """The name of the study that confirms another."""
    return f"{study}{SUFFIX}"


def confirmation_beside(studies: Studies, name: str) -> Confirmation | None:
    """What the study `NAME-confirm` beside a study has found; None where there is none, or nothing of it has begun."""
    beside = confirming_name(name)
    if beside not in studies.names():
        return None
    confirming = studies.view(beside)
    if confirming.user_attrs.get(CONFIRMS) != name:
        return None
    found = confirmation(studies.view(name), confirming)
    return found if found.candidates else None


def candidates(study: optuna.Study, top: int) -> list[FrozenTrial]:
    """The best `top` complete trials of a search, best first: no two of them alike but for their seeds.

    Of trials alike but for their seeds it is the best one.
    """
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    trials = [trial for trial in study.get_trials(deepcopy=False) if _is_candidate(trial)]
    found: dict[str, FrozenTrial] = {}
    for trial in sorted(trials, key=lambda trial: (sign * float(trial.value or 0.0), trial.number)):
        found.setdefault(setting_of(trial.user_attrs["recipe"]), trial)
    return list(found.values())[:top]


def _is_candidate(trial: FrozenTrial) -> bool:
    complete = trial.state == TrialState.COMPLETE and "duplicate_of" not in trial.user_attrs
    return complete and trial.value is not None and math.isfinite(trial.value) and "recipe" in trial.user_attrs


def setting_of(recipe: Mapping[str, Any]) -> str:
    """Equal for recipes that differ in nothing but their seeds."""
    return json.dumps({key: value for key, value in recipe.items() if key not in SEEDS}, sort_keys=True, default=str)


def confirmation(study: optuna.Study, confirming: optuna.Study) -> Confirmation:
    """What the study `confirming` says of the best settings of `study`; both may be running."""
    maximize = study.direction == StudyDirection.MAXIMIZE
    metric = study.user_attrs.get("space", {}).get("metric", "value")
    test_metric = f"test_{metric.partition('_')[2]}"
    trials = confirming.get_trials(deepcopy=False)
    searched = _numbered(study, {trial.user_attrs.get(CONFIRMS) for trial in trials})
    fresh = [trial for trial in trials if confirms_one_of(trial, searched)]
    found = [_candidate(searched[number], runs, test_metric, maximize) for number, runs in _by_candidate(fresh).items()]
    found.sort(key=lambda entry: (-entry.searched if maximize else entry.searched, entry.trial))
    winner = _winner(found, maximize)
    optimism, test_optimism = (
        level_mean([value for entry in found if (value := getattr(entry, name)) is not None]).mean
        for name in ("optimism", "test_optimism")
    )
    return Confirmation(
        study=study.study_name,
        confirmed_in=confirming.study_name,
        metric=metric,
        test_metric=test_metric if any(entry.test.trials for entry in found) else None,
        direction="maximize" if maximize else "minimize",
        candidates=tuple(_compared(found, winner)),
        winner=None if winner is None else winner.trial,
        optimism=optimism,
        test_optimism=test_optimism,
        unfinished=sum(run.state == "unfinished" for entry in found for run in entry.runs),
    )


def _numbered(study: optuna.Study, numbers: Iterable[int | None]) -> dict[int, FrozenTrial]:
    """A few trials by number, read one by one: a study may have thousands."""
    storage = getattr(study._storage, "backend", study._storage)
    found = {}
    for number in numbers:
        with suppress(KeyError):
            if number is not None:
                trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
                found[number] = storage.get_trial(trial_id)
    return found


def confirms_one_of(trial: FrozenTrial, searched: Mapping[int, FrozenTrial]) -> bool:
    """Whether a trial is one of these, by number, with a fresh seed.

    It is not where another search has since taken the place of the first. One that is still queued has no recipe to
    tell by.
    """
    first = searched.get(trial.user_attrs.get(CONFIRMS, -1))
    if first is None or "recipe" not in first.user_attrs:
        return False
    own = trial.user_attrs.get("recipe")
    return own is None or setting_of(own) == setting_of(first.user_attrs["recipe"])


def _by_candidate(trials: Sequence[FrozenTrial]) -> dict[int, list[SeedRun]]:
    """The runs of each trial that is confirmed, by seed."""
    found: dict[int, list[SeedRun]] = {}
    for trial in trials:
        number, complete = trial.user_attrs[CONFIRMS], trial.state == TrialState.COMPLETE
        test = trial.user_attrs.get(TEST) or {}
        value = trial.value if complete else None
        run = SeedRun(seed_of(trial), trial.number, _state(trial), value, dict(test) if complete else {})
        found.setdefault(number, []).append(run)
    return {number: sorted(runs, key=lambda run: run.seed) for number, runs in found.items()}


def seed_of(trial: FrozenTrial) -> int:
    """The fresh seed of a trial that confirms another, also of one that is still queued."""
    return int(trial.params["seed"] if "seed" in trial.params else trial.system_attrs["fixed_params"]["seed"])


def _state(trial: FrozenTrial) -> str:
    if not trial.state.is_finished():
        return "unfinished"
    if trial.user_attrs.get("diverged"):
        return "diverged"
    return {TrialState.COMPLETE: "complete", TrialState.FAIL: "failed"}.get(trial.state, "pruned")


def _candidate(trial: FrozenTrial, runs: Sequence[SeedRun], test_metric: str, maximize: bool) -> Candidate:
    value = float(trial.value) if trial.value is not None else math.nan
    validation = level_mean([run.value for run in runs if run.value is not None])
    test = level_mean([run.test[test_metric] for run in runs if test_metric in run.test])
    promised, test_promised = (_better(value, mean.mean, maximize) for mean in (validation, test))
    return Candidate(trial.number, value, tuple(runs), validation, test, promised, test_promised)


def _better(value: float, than: float | None, maximize: bool) -> float | None:
    """By how much a value is better than another."""
    if than is None:
        return None
    return value - than if maximize else than - value


def _winner(found: Sequence[Candidate], maximize: bool) -> Candidate | None:
    """The candidate with the best mean over fresh seeds, on validation.

    It is never chosen on the test split: what has chosen is optimistic about its choice, and there would be no split
    left to say what the winner is worth. One that ended without a value for some seeds, as where it diverged, wins only
    among its like: a mean over the seeds that it survived says too much.
    """
    means = [entry for entry in found if entry.validation.mean is not None]
    sound = [entry for entry in means if not entry.ended_otherwise]
    pick = max if maximize else min
    return pick(sound or means, key=lambda entry: entry.validation.mean or 0.0, default=None)


def _compared(found: Sequence[Candidate], winner: Candidate | None) -> list[Candidate]:
    """The candidates, all but the winner compared with it over the seeds that both have."""
    if winner is None:
        return list(found)
    first = _values(winner)
    tests = {
        entry.trial: compare_pairs([(first[seed], value) for seed, value in _values(entry).items() if seed in first])
        for entry in found
        if entry is not winner
    }
    chances = {trial: tested.p for trial, tested in tests.items() if tested.p is not None}
    pairs = (
        (len(chances) + 1) * len(chances) // 2
    )  # the winner is chosen by the same seeds: any pair might be looked at
    adjusted = dict(zip(chances, holm(list(chances.values()), among=pairs), strict=True))
    return [
        replace(entry, against_winner=tests.get(entry.trial), p_adjusted=adjusted.get(entry.trial)) for entry in found
    ]


def _values(entry: Candidate) -> dict[int, float]:
    return {run.seed: run.value for run in entry.runs if run.value is not None}
