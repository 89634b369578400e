"""The frame of trials: states, attributes, decoded parameters."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from tuner.analysis.trials import FIXED_COLUMNS, is_missing, parameters_of, trials_frame
from tuner.errors import UsageError
from tuner.storage.reading import records_of


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_of(search: dict[str, Any] | None = None, direction: str = "minimize") -> optuna.Study:
    study = optuna.create_study(direction=direction, study_name="s")
    if search is not None:
        study.set_user_attr("space", {"task": "digits", "mode": "full", "metric": "val_loss", "search": search})
    return study


def add(
    study: optuna.Study,
    state: TrialState = TrialState.COMPLETE,
    value: float | None = None,
    params: dict[str, Any] | None = None,
    distributions: dict[str, BaseDistribution] | None = None,
    **attributes: Any,
) -> None:
    study.add_trial(
        create_trial(
            state=state, value=value, params=params or {}, distributions=distributions or {}, user_attrs=attributes
        )
    )


def test_every_state_is_told_apart() -> None:
    study = study_of({})
    add(study, value=0.5)
    add(study, TrialState.PRUNED, value=0.7, reason="pruned by the pruner at epoch 5")
    add(study, TrialState.PRUNED, diverged=True, reason="diverged at epoch 2: train_loss is nan")
    add(study, TrialState.FAIL, reason="out of memory")
    add(study, TrialState.PRUNED, infeasible="epochs <= 3")
    add(study, value=0.5, duplicate_of=0)
    add(study, TrialState.PRUNED, duplicate_of=2, diverged=True)
    add(study, TrialState.RUNNING)
    add(study, TrialState.WAITING)
    frame = trials_frame(records_of(study))
    assert frame["state"].tolist() == [
        "complete", "pruned", "diverged", "failed", "infeasible", "duplicate", "duplicate", "running", "waiting",
    ]  # fmt: skip
    assert frame["counted"].tolist() == [True] * 4 + [False] * 5
    assert frame["number"].tolist() == list(range(9))
    assert frame["duplicate_of"].dropna().tolist() == [0, 2]
    assert frame["reason"].tolist()[3] == "out of memory"
    assert frame["reason"].tolist()[0] is None
    assert math.isnan(frame["value"].tolist()[3])


def test_attributes_have_their_columns() -> None:
    study = study_of({})
    recipe = {"epochs": 3, "model": {"hidden": [64, 64]}}
    add(
        study, value=0.4, recipe=recipe, enqueued="default recipe", final_train_loss=0.3, final_val_loss=0.4,
        best_train_loss=0.3, best_val_loss=0.35, gap=0.1, best_epoch=2, epochs_done=3, epochs_asked=3,
        seconds=12.5, weights="s/trial_0.safetensors",
    )  # fmt: skip
    row = trials_frame(records_of(study)).to_dict("records")[0]
    assert (row["gap"], row["seconds"], row["best_epoch"]) == (0.1, 12.5, 2)
    assert row["weights"] == "s/trial_0.safetensors"


def test_choices_stored_by_index_are_decoded() -> None:
    hidden = [[64], [64, 64], {"width": 3}]
    study = study_of({"model.hidden": {"choices": hidden}, "epochs": {"choices": [1, 2]}})
    distributions = {"model.hidden": CategoricalDistribution([0, 1, 2]), "epochs": CategoricalDistribution([1, 2])}
    for index in (1, 0, 2):
        add(study, value=0.1, params={"model.hidden": index, "epochs": 1}, distributions=distributions)
    frame = trials_frame(records_of(study))
    assert frame["model.hidden"].tolist() == [[64, 64], [64], {"width": 3}]
    assert frame["epochs"].tolist() == [1, 1, 1]  # plain choices are stored as they are, not by index


def test_an_inactive_parameter_is_missing_and_none_is_a_value() -> None:
    study = study_of({"dropout": {"choices": [None, 0.5]}, "momentum": {"low": 0, "high": 1}})
    dropout, momentum = CategoricalDistribution([None, 0.5]), FloatDistribution(0, 1)
    add(study, value=1.0, params={"dropout": None}, distributions={"dropout": dropout})
    add(study, value=1.0, params={"momentum": 0.5}, distributions={"momentum": momentum})
    frame = trials_frame(records_of(study))
    dropouts, momenta = frame["dropout"].tolist(), frame["momentum"].tolist()
    assert dropouts[0] is None
    assert not is_missing(dropouts[0])
    assert is_missing(dropouts[1])
    assert is_missing(momenta[0])
    assert frame["momentum"].dtype == "float64"


def test_types_stay_as_they_are() -> None:
    study = study_of()
    mixed = CategoricalDistribution([1, "1", True, 0.5])
    whole = IntDistribution(1, 9)
    for value in (1, "1", 0.5):
        add(study, value=1.0, params={"m": value, "i": 3}, distributions={"m": mixed, "i": whole})
    add(study, value=1.0, params={"i": 4}, distributions={"i": whole})
    frame = trials_frame(records_of(study))
    assert [type(entry) for entry in frame["m"].tolist()[:3]] == [int, str, float]
    assert frame["i"].dtype == "int64"


def test_ints_with_gaps_stay_ints() -> None:
    study = study_of()
    add(study, value=1.0, params={"i": 3}, distributions={"i": IntDistribution(1, 9)})
    add(study, value=1.0)
    assert trials_frame(records_of(study))["i"].dtype == "Int64"


def test_a_parameter_named_as_a_fixed_column_keeps_apart() -> None:
    study = study_of()
    one = FloatDistribution(0, 1)
    add(study, value=0.25, params={"value": 0.5, "params_x": 0.75}, distributions={"value": one, "params_x": one})
    frame = trials_frame(records_of(study))
    assert frame["value"].tolist() == [0.25]
    assert frame["params_value"].tolist() == [0.5]
    assert parameters_of(frame) == {"value": "params_value", "params_x": "params_params_x"}


def test_a_study_without_trials_has_all_columns() -> None:
    frame = trials_frame(records_of(study_of({"learning_rate": {"low": 0, "high": 1}})))
    assert list(frame.columns) == [*FIXED_COLUMNS, "learning_rate"]
    assert len(frame) == 0
    assert isinstance(frame, pd.DataFrame)


def test_an_objective_study_has_optunas_durations() -> None:
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    frame = trials_frame(records_of(study))
    assert frame["x"].tolist() == [trial.params["x"] for trial in study.trials]
    durations = [trial.duration.total_seconds() for trial in study.trials if trial.duration]
    assert frame["seconds"].tolist() == durations
    assert frame["gap"].isna().all()


def test_several_objectives_are_refused() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"], study_name="two")
    with pytest.raises(UsageError, match="two: only studies with one objective"):
        trials_frame(records_of(study))


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_a_complete_trial_without_a_finite_value_diverged(value: float) -> None:
    study = study_of()
    add(study, value=value)
    row = trials_frame(records_of(study)).to_dict("records")[0]
    assert (row["state"], row["counted"], row["diverged"], row["value"]) == ("diverged", True, True, value)
    assert row["reason"] == "its value is not finite"


@pytest.mark.parametrize("told", [12.5, math.inf, 10**30, 10**400, "3", True])
def test_a_count_that_is_no_whole_number_is_left_out(told: object) -> None:
    study = study_of()
    add(study, value=1.0, best_epoch=told, epochs_done=told, seconds=told)
    frame = trials_frame(records_of(study))
    assert frame["best_epoch"].isna().all() and frame["epochs_done"].isna().all()


@pytest.mark.parametrize("told", [False, True, 2.5, []])
@pytest.mark.parametrize("name", ["infeasible", "duplicate_of", "warm_start"])
def test_another_programs_attribute_of_the_same_name_says_nothing(name: str, told: object) -> None:
    study = study_of()
    add(study, value=1.0, **{name: told})
    row = trials_frame(records_of(study)).to_dict("records")[0]
    assert (row["state"], row["counted"]) == ("complete", True)


def test_a_search_of_another_shape_is_left_out() -> None:
    study = study_of({"x": 3})
    add(study, value=1.0, params={"x": 0.5}, distributions={"x": FloatDistribution(0, 1)})
    assert trials_frame(records_of(study))["x"].tolist() == [0.5]
