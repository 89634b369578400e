"""Advice on what makes trials diverge or run out of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from advised import AT, COUNT, NOISE, OTHER, RATE, Described, advice, of_kind, one, study, values_at
from hypothesis import given
from hypothesis import strategies as st

from tuner.analysis.advice.rates import _within
from tuner.analysis.divergence import Threshold


def struck(reason: str | None = None, above: float = 0.8) -> dict[str, Any]:
    """Trials above a place in the range diverge, or fail for a reason."""
    hit = [at > above for at in AT]
    if reason is None:
        states = ["PRUNED" if entry else "COMPLETE" for entry in hit]
        return {"states": states, "notes": {"diverged": [entry or None for entry in hit]}}
    return {
        "states": ["FAIL" if entry else "COMPLETE" for entry in hit],
        "notes": {"reason": [reason if entry else None for entry in hit]},
    }


def test_out_of_memory_bounds_what_is_too_large() -> None:
    search = {"batch_size": {"choices": [16, 32, 64, 128, 256]}} | RATE
    told = one(study(search, NOISE, places={"batch_size": AT}, **struck("CUDA out of memory")), "bound")
    assert told.parameter == "batch_size"
    assert "ran out of memory" in told.why
    assert told.change is not None and told.change.search["batch_size"]["choices"] == [16, 32, 64, 128]
    assert told.do == "lower batch_size: leave out 256"
    assert told.evidence["out_of_memory_beyond"] > told.evidence["out_of_memory_within"]
    assert not [key for key in told.evidence if "diverged" in key]
    other = study(search, NOISE, places={"batch_size": AT}, **struck("ValueError: no"))
    assert not of_kind(other, "bound")


def test_trials_that_diverge_anywhere_bound_nothing() -> None:
    hit = [k % 5 == 0 for k in range(COUNT)]
    states = ["PRUNED" if entry else "COMPLETE" for entry in hit]
    assert not of_kind(
        study(RATE, NOISE, places={"learning_rate": AT}, states=states, notes={"diverged": hit}), "bound"
    )


def test_a_threshold_among_choices_of_which_some_are_no_numbers() -> None:
    search = {"gradient_clip": {"choices": [None, 0.1, 1.0, 10.0, 100.0]}} | OTHER
    told = one(study(search, NOISE, places={"gradient_clip": AT}, **struck()), "bound")
    assert told.change is not None and told.change.search["gradient_clip"]["choices"] == [None, 0.1, 1.0, 10.0]


@pytest.mark.parametrize(
    ("entry", "low", "high"),
    [
        ({"low": 10.0, "high": 12.0}, 11.4, 11.7),
        ({"low": 1, "high": 9}, 7, 8),
        ({"low": 1e-4, "high": 1e-1, "log": True}, 1e-2, 5e-2),
    ],
)
def test_a_range_is_bounded_at_the_threshold(entry: Described, low: float, high: float) -> None:
    told = one(study({"x": entry} | OTHER, NOISE, places={"x": AT}, **struck()), "bound", "x")
    assert told.change is not None and low <= told.change.search["x"]["high"] <= high
    notes = {"diverged": [at < 0.2 or None for at in AT]}
    states = ["PRUNED" if at < 0.2 else "COMPLETE" for at in AT]
    told = one(study({"x": entry} | OTHER, NOISE, places={"x": AT}, states=states, notes=notes), "bound", "x")
    assert told.change is not None
    struck_values = [value for value, at in zip(values_at(entry, AT), AT, strict=True) if at < 0.2]
    assert told.change.search["x"]["low"] > np.quantile(struck_values, 0.8)


def test_where_the_best_trial_is_beyond_the_threshold_training_is_steadied() -> None:
    half = {"states": [], "notes": {"diverged": []}}
    for place, at in enumerate(AT):
        hit = at > 0.6 and place % 6 != 0
        half["states"].append("PRUNED" if hit else "COMPLETE")
        half["notes"]["diverged"].append(hit or None)
    records = study(RATE | OTHER, AT, places={"learning_rate": AT}, **half)
    told = one(records, "steady")
    assert "yet the best trial has" in told.why and "gradient_clip" in told.do
    assert told.change is not None and dict(told.change.recipe) == {"gradient_clip": 1.0}
    clipped = study(RATE | OTHER, AT, places={"learning_rate": AT}, recipe={"gradient_clip": 0.5}, **half)
    told = one(clipped, "steady")
    assert told.change is None and "gradient_clip" not in told.do


def test_where_only_the_highest_rates_work_the_data_are_to_be_checked() -> None:
    told = one(study(RATE | OTHER, AT**4 + 0.02 * NOISE, places={"learning_rate": AT}), "check_data")
    assert "all of the best quarter have" in told.why and told.evidence["least"] > 1e-3
    narrow = {"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}}
    assert not of_kind(study(narrow | OTHER, AT**4 + 0.02 * NOISE, places={"learning_rate": AT}), "check_data")
    assert not of_kind(study(RATE | OTHER, (1 - AT) ** 4, places={"learning_rate": AT}), "check_data")


def test_a_choice_with_which_trials_diverge_is_left_out_but_never_the_best_trials() -> None:
    search = {"model.norm": {"choices": [True, False]}} | OTHER
    told = one(study(search, NOISE - 5 * (AT > 0.5), places={"model.norm": AT}, **struck(above=0.7)), "bound")
    assert told.do == "leave out False of model.norm"
    assert told.why == "18 of 30 trials with False diverged, 0 of 30 others"
    assert told.change is not None and dict(told.change.fixed) == {"model.norm": True}
    best_beyond = study(search, np.where(AT > 0.5, 5, 0) + NOISE, places={"model.norm": AT}, **struck(above=0.7))
    left = advice(best_beyond)
    assert not [entry for entry in left if entry.parameter == "model.norm" and entry.kind in ("bound", "fix")]
    assert not [entry for entry in left if entry.kind == "no_effect"]


@given(
    threshold=st.floats(1.1e-4, 0.09),
    share=st.floats(0.0, 1.0),
    above=st.booleans(),
    log=st.booleans(),
    none=st.booleans(),
)
def test_a_bound_is_never_beyond_the_threshold_nor_leaves_the_best_trial_out(
    threshold: float, share: float, above: bool, log: bool, none: bool
) -> None:
    low, high = 1e-4, 0.1
    best = None if none else threshold - share * (threshold - low) if above else threshold + share * (high - threshold)
    entry = Threshold("x", threshold, "above" if above else "below", 10, 10, 50, 0, 0.001)
    bound = _within(entry, best, low, high, log)
    assert low < bound < high
    assert bound <= threshold * (1 + 1e-9) if above else bound >= threshold * (1 - 1e-9)
    assert best is None or (best <= bound * (1 + 1e-9) if above else best >= bound * (1 - 1e-9))
