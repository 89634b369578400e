"""The analysis as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from tuner.analysis import analyze
from tuner.report import analysis_json


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def some_study(count: int) -> optuna.Study:
    study = optuna.create_study(direction="minimize", study_name="s")
    study.set_user_attr("space", {"metric": "val_loss", "search": {"hidden": {"choices": [[8], [8, 8]]}}})
    study.set_user_attr("budget", {"trials": 20, "seconds": math.inf})
    distributions = {"hidden": CategoricalDistribution([0, 1]), "rate": FloatDistribution(0, 1)}
    for number in range(count):
        attributes: dict[str, Any] = {"gap": 0.01 * number, "enqueued": "default recipe" if number == 0 else None}
        params = {"hidden": number % 2, "rate": (number + 1) / 40}
        study.add_trial(
            create_trial(value=1.0 - number / 100, params=params, distributions=distributions, user_attrs=attributes)
        )
    study.add_trial(create_trial(state=TrialState.FAIL))
    return study


KEYS = {
    "schema", "name", "task", "mode", "metric", "direction", "value", "counts", "best", "top", "impact", "gap", "gain",
    "budget", "total_seconds", "seconds_per_trial", "expect", "groups", "recorded", "warm_start", "confirmed",
    "advice", "ends", "interactions", "spread", "stability",
}  # fmt: skip


@pytest.mark.parametrize("count", [0, 3, 15])
def test_it_is_strict_json_with_the_same_keys(count: int) -> None:
    found = analysis_json(analyze(some_study(count)))
    assert set(found) == KEYS
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["counts"]["total"] == count + 1
    assert found["counts"]["counted"] == count + 1


def test_numbers_are_not_rounded_and_values_are_decoded() -> None:
    study = some_study(15)
    found = analysis_json(analyze(study))
    assert found["best"]["number"] == study.best_trial.number
    assert found["best"]["value"] == study.best_value
    assert found["best"]["parameters"] == {"hidden": [8], "rate": 15 / 40}
    assert found["gain"]["gain"] == pytest.approx(0.14)
    assert found["budget"] == {"trials": 20, "seconds": None}
    assert {entry["parameter"] for entry in found["impact"]["parameters"]} == {"hidden", "rate"}
    level = found["impact"]["parameters"][0]["levels"][0]
    assert set(level) == {
        "value", "low", "high", "trials", "complete", "mean", "best",
        "share_complete", "share_pruned", "share_diverged", "share_failed",
    }  # fmt: skip
