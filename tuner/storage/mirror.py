"""Mirror: the trials of one study in memory, as Optuna's `FrozenTrial`s that are replaced and never changed."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable
from typing import Any

from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.trial import FrozenTrial, TrialState


class Mirror:
    """A study's trials by number, and what this process knows of them.

    A trial that has not finished is either in `own`, ids of those that only this process changes, or stale after
    every read.
    """

    def __init__(self, own: set[int]) -> None:
        self.own = own
        self.trials: list[FrozenTrial] = []
        self.numbers: dict[int, int] = {}
        self._unfinished: set[int] = set()
        self._distributions: dict[str, BaseDistribution] = {}

    def put(self, trials: Iterable[FrozenTrial]) -> None:
        """Take trials as the database has them: new ones, in the order of their numbers, or newer states."""
        for trial in trials:
            if trial.number == len(self.trials):
                self.trials.append(trial)
                self.numbers[trial._trial_id] = trial.number
            else:
                self.trials[trial.number] = trial
            self._note(trial)

    def _note(self, trial: FrozenTrial) -> None:
        (self._unfinished.discard if trial.state.is_finished() else self._unfinished.add)(trial.number)
        if trial.state.is_finished():
            self.own.discard(trial._trial_id)
        for name, distribution in trial.distributions.items():
            self._distributions.setdefault(name, distribution)

    @property
    def newest_id(self) -> int:
        """The largest trial id; -1 where there is none."""
        return self.trials[-1]._trial_id if self.trials else -1

    def stale(self) -> list[int]:
        """Ids of unfinished trials that another process may have changed."""
        ids = (self.trials[number]._trial_id for number in sorted(self._unfinished))
        return [trial_id for trial_id in ids if trial_id not in self.own]

    def select(self, states: Container[TrialState] | None) -> list[FrozenTrial]:
        """The trials in any of `states` (None: all), by number; quick where only unfinished ones are wanted."""
        if states is None:
            return list(self.trials)
        if any(state in states for state in TrialState if state.is_finished()):
            return [trial for trial in self.trials if trial.state in states]
        candidates = (self.trials[number] for number in sorted(self._unfinished))
        return [trial for trial in candidates if trial.state in states]

    def get(self, trial_id: int) -> FrozenTrial:
        """The trial of an id; `KeyError` for an unknown one."""
        return self.trials[self.numbers[trial_id]]

    def change(self, trial_id: int, **fields: Any) -> FrozenTrial:
        """Replace a trial by one with other `fields`, so that who holds the old one sees it unchanged."""
        trial = copy.copy(self.get(trial_id))
        for name, value in fields.items():
            setattr(trial, name, value)
        self.trials[trial.number] = trial
        self._note(trial)
        return trial

    def check_distribution(self, name: str, distribution: BaseDistribution) -> None:
        """Raise `ValueError` where a parameter was searched in an incompatible way before."""
        if name in self._distributions:
            check_distribution_compatibility(self._distributions[name], distribution)


def apart(trial: FrozenTrial) -> FrozenTrial:
    """A copy that shares nothing a caller may change: Optuna's `Trial` writes into the one it is given."""
    found = copy.copy(trial)
    found.params, found.distributions = dict(trial.params), dict(trial.distributions)
    found.user_attrs, found.system_attrs = dict(trial.user_attrs), dict(trial.system_attrs)
    found.intermediate_values = dict(trial.intermediate_values)
    return found
