"""`Objective` in plain Optuna."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tuner.objective import Objective, PruningCallback
from tuner.training.run import EpochRecord

optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_of(**more: object) -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), **more)  # type: ignore[arg-type]


def test_objective_builds_the_model_from_suggested_values(own_folder: Path) -> None:
    study = study_of()
    study.optimize(Objective("tiny.py"), n_trials=4)
    for trial in study.trials:
        assert set(trial.params) == {"learning_rate", "model.hidden"}
        assert trial.value == min(trial.intermediate_values.values())
        assert trial.user_attrs["recipe"]["model"]["hidden"] == trial.params["model.hidden"]


def test_objective_prunes_through_optunas_pruner(own_folder: Path) -> None:
    pruner = optuna.pruners.ThresholdPruner(upper=0.0)
    study = study_of(pruner=pruner)
    study.optimize(Objective("tiny.py"), n_trials=2)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 2
    assert study.trials[0].user_attrs["reason"] == "pruned by the pruner at epoch 1"
    assert list(study.trials[0].intermediate_values) == [1]


def test_infeasible_and_diverged_trials_are_pruned_with_their_reason(own_folder: Path) -> None:
    study = study_of()
    study.optimize(Objective("tiny.py", mode="impossible"), n_trials=1)
    assert study.trials[0].user_attrs["infeasible"] == "learning_rate > 1"
    study = study_of()
    study.enqueue_trial({"model.fault": "nan"})
    study.optimize(Objective("tiny.py", mode="faults"), n_trials=1)
    assert study.trials[0].state == TrialState.PRUNED
    assert study.trials[0].user_attrs["reason"].startswith("diverged")


def test_callback_raises_trial_pruned() -> None:
    trial = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=1.0)).ask()
    callback = PruningCallback(trial, "val_loss")
    values = {"train_loss": 0.5, "val_loss": 0.5}
    callback(EpochRecord(1, 10, values, 0.1, 1.0, 0.1))
    with pytest.raises(optuna.TrialPruned):
        callback(EpochRecord(2, 20, {**values, "val_loss": 2.0}, 0.1, 1.0, 0.1))
