"""The whole analysis of a study."""

from __future__ import annotations

import subprocess
import sys

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from tuner.analysis import analyze
from tuner.errors import UsageError


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_a_study_of_tuner_tells_what_it_is() -> None:
    study = optuna.create_study(direction="maximize", study_name="digits-full")
    space = {"task": "digits", "mode": "full", "metric": "val_accuracy", "value": "best", "search": {}}
    study.set_user_attr("space", space)
    study.set_user_attr("budget", {"trials": 4, "seconds": None, "stop_without_improvement": None})
    for value, seconds, attributes in ((0.5, 10.0, {}), (0.9, 20.0, {}), (0.9, 1.0, {"duplicate_of": 1})):
        study.add_trial(create_trial(value=value, user_attrs={"seconds": seconds, "recipe": {}, **attributes}))
    found = analyze(study, top=1)
    assert (found.name, found.task, found.mode, found.metric) == ("digits-full", "digits", "full", "val_accuracy")
    assert (found.direction, found.value, found.budget["trials"]) == ("maximize", "best", 4)
    assert found.best is not None
    assert (found.best.number, found.best.value) == (1, 0.9)
    assert len(found.top.trials) == 1
    assert (found.total_seconds, found.seconds_per_trial) == (30.0, 15.0)


def test_a_plain_optuna_study_is_analyzed_too() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2 + trial.suggest_int("k", 0, 9), n_trials=25)
    found = analyze(study)
    assert (found.task, found.metric, found.direction, found.gap, found.gain) == (None, "value", "minimize", None, None)
    assert found.best is not None
    assert found.best.value == study.best_value
    assert found.best.parameters == study.best_params
    assert found.impact.parameters[0].parameter == "k"
    assert [entry.value for entry in found.top.trials] == sorted(trial.value or 0.0 for trial in study.trials)[:5]


@pytest.mark.parametrize("states", [[], [TrialState.FAIL], [TrialState.FAIL] * 12, [TrialState.RUNNING]])
def test_studies_without_a_complete_trial(states: list[TrialState]) -> None:
    study = optuna.create_study()
    study.add_trials([create_trial(state=state) for state in states])
    found = analyze(study)
    assert (found.best, found.top.trials, found.gap, found.gain) == (None, (), None, None)
    assert found.counts.total == len(states)


def test_several_objectives_are_refused() -> None:
    with pytest.raises(UsageError, match="one objective"):
        analyze(optuna.create_study(directions=["minimize", "minimize"]))


def test_reading_a_study_never_imports_torch() -> None:
    program = """
import sys, optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
import tuner.report
assert "pandas" not in sys.modules, "tuner.report alone needs no pandas"
from tuner.analysis import analyze
from rich.console import Console
study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=15)
analysis = analyze(study)
assert analysis.impact.reason is None
tuner.report.print_analysis(analysis, Console(width=80))
tuner.report.analysis_json(analysis)
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
