"""How a study stands: which trials count, the best, and how long ago it was found."""

from __future__ import annotations

from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.storage.studies import WARM_START


@dataclass
class Score:
    """The standing of a study: counted trials, the best, and how long ago it was found.

    Trials taken over from an earlier study (`earlier`) can be the best, and count for nothing else. Those of them that
    came without weights are `bare`.
    """

    numbers: set[int] = field(default_factory=set)
    best_value: float | None = None
    best_trial: int | None = None
    failures: list[str] = field(default_factory=list)
    values: dict[int, float] = field(default_factory=dict)
    earlier: set[int] = field(default_factory=set)
    bare: set[int] = field(default_factory=set)

    def add(self, number: int, state: TrialState, value: float | None, reason: str, maximize: bool) -> bool:
        """Count an ended trial; True if it is the best so far. The order of ends does not matter."""
        self.numbers.add(number)
        if state == TrialState.FAIL:
            self.failures.append(reason)
        if state != TrialState.COMPLETE or value is None:
            return False
        return self._rank(number, value, maximize)

    def take_over(self, trial: FrozenTrial, maximize: bool) -> None:
        """Know a trial that was taken over from an earlier study."""
        self.earlier.add(trial.number)
        if trial.value is not None:
            self._rank(trial.number, trial.value, maximize)
        if "weights" not in trial.user_attrs:
            self.bare.add(trial.number)

    def _rank(self, number: int, value: float, maximize: bool) -> bool:
        self.values[number] = value
        sign = -1 if maximize else 1
        self.best_trial = min(self.values, key=lambda trial: (sign * self.values[trial], trial))
        self.best_value = self.values[self.best_trial]
        return self.best_trial == number

    @property
    def counted(self) -> int:
        """Trials that count towards the budget."""
        return len(self.numbers)

    @property
    def known(self) -> int:
        """Trials that a sampler can learn from."""
        return len(self.numbers) + len(self.earlier)

    @property
    def with_weights(self) -> dict[int, float]:
        """The values of trials that have weights to keep, by number."""
        return {number: value for number, value in self.values.items() if number not in self.bare}

    @property
    def since_best(self) -> int:
        """Counted trials behind the best one."""
        best = -1 if self.best_trial is None else self.best_trial
        return sum(number > best for number in self.numbers)


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards the budget (contract C3)."""
    attrs = trial.user_attrs
    return trial.state.is_finished() and not attrs.keys() & {"infeasible", "duplicate_of", WARM_START}


def score_of(study: optuna.Study, maximize: bool) -> Score:
    """The standing of a study by its records."""
    score = Score()
    for trial in study.get_trials(deepcopy=False):
        if WARM_START in trial.user_attrs:
            score.take_over(trial, maximize)
        if not counts(trial):
            continue
        reason = trial.user_attrs.get("reason", "")
        value = trial.value if trial.state == TrialState.COMPLETE else None
        score.add(trial.number, trial.state, value, reason, maximize)
    return score
