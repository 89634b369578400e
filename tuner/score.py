"""How a study stands: which trials count, the best, and how long ago it was found."""

from __future__ import annotations

from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState


@dataclass
class Score:
    """The standing of a study: counted trials, the best, and how long ago it was found."""

    counted: int = 0
    best_value: float | None = None
    best_trial: int | None = None
    since_best: int = 0
    failures: list[str] = field(default_factory=list)
    values: dict[int, float] = field(default_factory=dict)

    def add(self, number: int, state: TrialState, value: float | None, reason: str, maximize: bool) -> bool:
        """Count an ended trial; True if it is the best so far."""
        self.counted += 1
        self.since_best += 1
        if state == TrialState.FAIL:
            self.failures.append(reason)
        if state != TrialState.COMPLETE or value is None:
            return False
        self.values[number] = value
        best = self.best_value
        if best is not None and not (value > best if maximize else value < best):
            return False
        self.best_value, self.best_trial, self.since_best = value, number, 0
        return True


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
