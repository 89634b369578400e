"""One trial the Optuna way: `Objective` for plain `study.optimize`, and runs of a user's own objective."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from tuner.recipe import Recipe
from tuner.resolve import resolve
from tuner.search_space import SearchSpace, build_space, find_target
from tuner.tasks import load_task
from tuner.training.device import pick_device
from tuner.training.run import EpochRecord, Goal, Result
from tuner.training.trainer import Trainer, train


class PruningCallback:
    """Reports `metric` to an Optuna trial after every epoch and raises `TrialPruned` when its pruner says so."""

    def __init__(self, trial: optuna.Trial, metric: str) -> None:
        self.trial, self.metric = trial, metric

    def __call__(self, record: EpochRecord) -> None:
        """Take an epoch's record; Optuna's step is the epoch, counted from 1."""
        self.trial.report(record.values[self.metric], record.epoch)
        if self.trial.should_prune():
            self.trial.set_user_attr("reason", f"pruned by the pruner at epoch {record.epoch}")
            raise optuna.TrialPruned(f"pruned at epoch {record.epoch}")


class Objective:
    """An Optuna objective that trains one recipe of a search space a trial.

        study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner())
        study.optimize(Objective("digits", mode="full"), n_trials=20)

    `space` is a `SearchSpace`, or what `tuner run` takes: a task's name, a task's file, a search space's file.
    The model is built from values that `trial.suggest_*` gives. Infeasible and diverged trials are pruned,
    with the reason as a user attribute. Raises `UsageError` where the space cannot be trained.
    """

    def __init__(self, space: SearchSpace | str | Path, mode: str = "quick", device: str = "auto") -> None:
        if not isinstance(space, SearchSpace):
            space = build_space(find_target(str(space)), mode)
        task = load_task(space.task)
        self.space, probe = resolve(space, task)
        goal = goal_of(self.space)
        self._trainer = Trainer(task, goal, probe.terms, pick_device(device))

    def __call__(self, trial: optuna.Trial) -> float:
        """Train one trial; gives its value, raises `optuna.TrialPruned` where it has none."""
        recipe, violated = self.space.recipe_for(self.space.suggest(trial))
        trial.set_user_attr("recipe", recipe.model_dump())
        if violated:
            trial.set_user_attr("infeasible", violated)
            raise optuna.TrialPruned(f"infeasible: {violated}")
        return self._trained(trial, recipe)

    def _trained(self, trial: optuna.Trial, recipe: Recipe) -> float:
        run = self._trainer.start(recipe)
        try:
            result = train(run, (PruningCallback(trial, self.space.metric),))
        finally:
            for key, value in run.result().summary().items():
                trial.set_user_attr(key, value)
        if result.value is None:
            trial.set_user_attr("diverged", result.diverged)
            trial.set_user_attr("reason", result.reason)
            raise optuna.TrialPruned(result.reason)
        return result.value


def goal_of(space: SearchSpace) -> Goal:
    """What a space's trials are scored by."""
    return Goal(space.metric, space.maximize, "last" if space.value == "last" else "best")


class ObjectiveRun:
    """A trial of a user's own objective, as a run that has a single round."""

    def __init__(self, function: Callable[[optuna.Trial], Any], trial: optuna.Trial) -> None:
        self._function, self._trial = function, trial
        self._result = Result(None, "", False, 0, 0, None)
        self.seconds = 0.0
        self.done = False

    def epoch(self) -> list[EpochRecord]:
        """Call the objective; raises what it raises, `TrialPruned` among it."""
        started = time.perf_counter()
        try:
            value = self._function(self._trial)
        finally:
            self.seconds = time.perf_counter() - started
        self.done = True
        if isinstance(value, (list, tuple)):
            raise TypeError("the objective gives several values; one is needed")
        number = float(value)
        broken = not math.isfinite(number)
        reason = f"diverged: the objective gave {number}" if broken else ""
        self._result = replace(self._result, value=None if broken else number, reason=reason, diverged=broken)
        return []

    def result(self) -> Result:
        """How the trial ended."""
        return self._result

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what a function has done cannot be kept."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to load."""
