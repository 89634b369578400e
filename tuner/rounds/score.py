"""How a study stands: which trials count, the best, and how long ago it was found."""

from __future__ import annotations

from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState


@dataclass
class Score:
    """The standing of a study: counted trials, the best, and how long ago it was found."""

    numbers: set[int] = field(default_factory=set)
    best_value: float | None = None
    best_trial: int | None = None
    failures: list[str] = field(default_factory=list)
    values: dict[int, float] = field(default_factory=dict)

    def add(self, number: int, state: TrialState, value: float | None, reason: str, maximize: bool) -> bool:
        """Count an ended trial; True if it is the best so far. The order of ends does not matter."""
        self.numbers.add(number)
        if state == TrialState.FAIL:
            self.failures.append(reason)
        if state != TrialState.COMPLETE or value is None:
            return False
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
    def since_best(self) -> int:
        """Counted trials behind the best one."""
        best = -1 if self.best_trial is None else self.best_trial
        return sum(number > best for number in self.numbers)


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards the budget (contract C3)."""
    attrs = trial.user_attrs
    return trial.state.is_finished() and "infeasible" not in attrs and "duplicate_of" not in attrs


def score_of(study: optuna.Study, maximize: bool) -> Score:
    """The standing of a study by its records."""
    score = Score()
    for trial in study.get_trials(deepcopy=False):
        if not counts(trial):
            continue
        reason = trial.user_attrs.get("reason", "")
        value = trial.value if trial.state == TrialState.COMPLETE else None
        score.add(trial.number, trial.state, value, reason, maximize)
    return score
