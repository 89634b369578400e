"""A plain Optuna objective to be killed in: it reports, is pruned, fails and gives NaN."""

from __future__ import annotations

import optuna


def objective(trial):
    x = trial.suggest_float("x", -3.0, 3.0)
    kind = trial.suggest_categorical("kind", ["square", "cube"])
    y = trial.suggest_int("y", 0, 9) if kind == "square" else 4
    if y > 6:
        raise ValueError("y is too large")
    for step in range(1, 4):
        trial.report(x**2 + y / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x**2 + y / 3 if y else float("nan")
