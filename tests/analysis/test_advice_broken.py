"""Advice on trials that fail, and on values that never change."""

from __future__ import annotations

import numpy as np
from advised import RATE, of_kind, one, study


def test_where_trials_fail_their_reason_is_told_and_no_more_of_them_asked_for() -> None:
    failed, fine = ["FAIL"] * 3, ["COMPLETE"] * 3
    told = one(study(RATE, [0.0] * 3, states=failed, notes={"reason": ["ValueError: no"] * 3}), "failing")
    assert told.evidence == {"failed": 3, "trials": 3, "reason": "ValueError: no"}
    assert told.why == "3 of 3 trials failed, 3 of them with: ValueError: no"
    assert not of_kind(study(RATE, [0.0] * 3, states=failed), "more_trials")
    mixed = study(RATE, [0.0, 0.0, 0.0, 0.1, 0.2, 0.3], states=[*failed, *fine])
    assert one(mixed, "failing").evidence["failed"] == 3 and one(mixed, "more_trials")
    assert not of_kind(study(RATE, [0.0, 0.1, 0.2, 0.3], states=["FAIL", *fine]), "failing")
    memory = study(RATE, [0.0] * 3, states=failed, notes={"reason": ["CUDA out of memory"] * 3})
    assert one(memory, "failing").evidence["reason"] == "CUDA out of memory"


def test_where_all_values_are_the_same_the_measure_is_to_be_checked() -> None:
    told = one(study(RATE, [0.5] * 5), "same_value")
    assert told.evidence == {"trials": 5, "value": 0.5}
    assert not of_kind(study(RATE, [0.5] * 4), "same_value")
    assert not of_kind(study(RATE, [0.5, 0.5, 0.5, 0.5, 0.6]), "same_value")
    assert not of_kind(study(RATE, [0.5] * 5, places={"learning_rate": np.zeros(5)}), "same_value")
