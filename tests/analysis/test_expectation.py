"""Where a study stands against its expectation."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from tuner.analysis import Standing, analyze
from tuner.analysis.expectation import standing
from tuner.report import analysis_json
from tuner.report.expected import standing_reading
from tuner.storage.batched import BatchedStorage
from tuner.storage.epochs import EpochRow, EpochRows

EXPECT: dict[str, Any] = {
    "good": {"val_loss": {"low": 0.001, "high": 0.01}, "gap": {"high": 0.01}},
    "poor": {"val_loss": {"low": 0.1}, "gap": {"low": 0.05}},
}


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def judged(numbers: dict[str, Any], expect: dict[str, Any] = EXPECT, **better: str) -> tuple[str, str]:
    found = standing(expect, numbers, 3, better)
    return found.verdict, standing_reading(found)


@pytest.mark.parametrize(
    ("val_loss", "gap", "verdict", "words"),
    [
        (0.0042, 0.002, "good", "good: val_loss 0.0042 is within 0.001 to 0.01, gap 0.002 is below 0.01"),
        (0.01, 0.01, "good", "good: val_loss 0.01 is within 0.001 to 0.01, gap 0.01 is at 0.01"),
        (
            0.0004, 0.002, "better",
            "better than expected: val_loss 0.0004 is below 0.001: check the data for leaks (gap 0.002 is below 0.01)",
        ),
        (0.05, 0.002, "in between", "in between: val_loss 0.05 is above 0.01"),
        (0.05, 0.02, "in between", "in between: val_loss 0.05 is above 0.01, gap 0.02 is above 0.01"),
        (0.0004, 0.02, "in between", "in between: gap 0.02 is above 0.01"),
        (0.0042, 0.08, "poor", "poor: gap 0.08 is above 0.05"),
        (0.2, 0.08, "poor", "poor: val_loss 0.2 is above 0.1, gap 0.08 is above 0.05"),
        (0.0042, None, "unknown", "cannot tell: gap was not recorded"),
        (0.05, None, "unknown", "cannot tell: gap was not recorded, val_loss 0.05 is above 0.01"),
        (0.2, None, "poor", "poor: val_loss 0.2 is above 0.1"),
        (0.01000001, 0.0, "in between", "in between: val_loss 0.01000001 is above 0.01"),
    ],
)  # fmt: skip
def test_the_verdict_and_its_evidence(val_loss: float, gap: float | None, verdict: str, words: str) -> None:
    assert judged({"val_loss": val_loss, "gap": gap}) == (verdict, words)


def test_what_is_better_is_known_from_what_is_poor_or_from_the_study() -> None:
    good = {"good": {"val_snr": {"low": 10, "high": 20}}}
    above = {"val_snr": 25.0}
    assert judged(above, good) == ("in between", "in between: val_snr 25 is above 20")
    assert judged(above, good, val_snr="higher")[0] == "better"
    assert judged(above, good, val_snr="lower")[0] == "in between"
    assert judged(above, {**good, "poor": {"val_snr": {"high": 5}}})[0] == "better"
    assert judged({"val_snr": 7.0}, {**good, "poor": {"val_snr": {"high": 5}}})[0] == "in between"
    assert judged(above, {**good, "poor": {"val_snr": {"low": 30}}})[0] == "in between"


def test_one_side_alone() -> None:
    assert judged({"gap": 0.02}, {"poor": EXPECT["poor"]})[0] == "unknown"
    only_poor = {"poor": {"gap": {"low": 0.05}}}
    assert judged({"gap": 0.02}, only_poor) == ("in between", "in between: not poor: gap 0.02 is below 0.05")
    assert judged({"gap": 0.06}, only_poor)[0] == "poor"
    only_good = {"good": {"gap": {"high": 0.05}}}
    assert judged({"gap": 0.02}, only_good)[0] == "good"
    missing = {"good": {"gap": {"high": 0.05}}, "poor": {"val_loss": {"low": 1.0}}}
    assert judged({"gap": 0.02}, missing) == ("good", "good: gap 0.02 is below 0.05, val_loss was not recorded")


bounds = st.tuples(st.floats(-5, 5), st.floats(-5, 5)).map(lambda pair: {"low": min(pair), "high": max(pair)})


@given(bounds, bounds, st.floats(-6, 6))
@settings(max_examples=100, deadline=None)
def test_ranges_hold_bounds_included(good: dict[str, float], poor: dict[str, float], value: float) -> None:
    verdict, words = judged({"value": value}, {"good": {"value": good}, "poor": {"value": poor}})
    expected = "in between"
    if poor["low"] <= value <= poor["high"]:
        expected = "poor"
    elif good["low"] <= value <= good["high"]:
        expected = "good"
    assert verdict == expected
    assert words.startswith(f"{expected}: value ")


def study_of(*gaps: float, expect: Any = EXPECT) -> optuna.Study:
    """Trials of value 0, 1, 2, ...; minimized, so that trial 0 is the best; its best epoch is the second of three."""
    study = optuna.create_study(storage=BatchedStorage(optuna.storages.RDBStorage("sqlite://")), direction="minimize")
    study.set_user_attr("space", {"metric": "val_loss", "value": "best", "search": {}})
    if expect is not None:
        study.set_user_attr("expect", expect)
    for number, gap in enumerate(gaps):
        study.add_trial(create_trial(value=float(number), user_attrs={"gap": gap, "best_epoch": 2}))
    return study


def with_epochs(study: optuna.Study, losses: list[float]) -> optuna.Study:
    assert isinstance(study._storage, BatchedStorage)
    rows = EpochRows(study._storage)
    for trial in study.trials:
        for epoch, loss in enumerate(losses, start=1):
            values = {"val_loss": loss + trial.number, "train_loss": 0.1}
            rows.write([EpochRow(trial._trial_id, trial.number, epoch, 0.1, 1.0, 1.0, values)])
    return study


def standing_of(study: optuna.Study) -> Standing:
    found = analyze(study).expect
    assert found is not None
    return found


def test_the_best_trials_best_epoch_is_judged() -> None:
    study = study_of(0.002, 0.3)
    found = standing_of(with_epochs(study, [0.9, 0.004, 0.7]))
    assert (found.verdict, found.trial) == ("good", 0)
    assert {entry.name: entry.value for entry in found.good} == {"val_loss": 0.004, "gap": 0.002}
    assert analysis_json(analyze(with_epochs(study, [0.9, 0.004, 0.7])))["expect"]["verdict"] == "good"


def test_without_epochs_a_metric_is_not_known() -> None:
    found = standing_of(study_of(0.002))
    assert (found.verdict, found.good[0].side) == ("unknown", "missing")
    assert standing_reading(found) == "cannot tell: val_loss was not recorded"


def test_the_value_itself_can_be_expected() -> None:
    expect = {"good": {"value": {"low": 1.0, "high": 2.0}}}
    assert standing_of(study_of(0.1, expect=expect)).verdict == "better"
    assert analyze(study_of(0.1, expect=None)).expect is None
    assert analyze(study_of(0.1, expect={})).expect is None


def test_no_complete_trial_is_said() -> None:
    study = study_of()
    study.add_trial(create_trial(state=TrialState.FAIL))
    assert standing_reading(standing_of(study)) == "cannot tell: no trial is complete with a value"
