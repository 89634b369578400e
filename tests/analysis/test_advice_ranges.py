"""Advice on ranges: to widen, narrow, fix or refine them where there is reason, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from advised import AT, COUNT, NOISE, OTHER, RATE, Described, both, of_kind, one, study, values_at

from tuner.storage.records import Records

RISING, FALLING = AT + 0.1 * NOISE, 1 - AT + 0.1 * NOISE
RANGES = {
    "a range": ("model.scale", {"low": 2.0, "high": 10.0}, 14.0, 1.0),
    "a short range far from zero": ("model.scale", {"low": 100.0, "high": 104.0}, 106.0, 98.0),
    "a range around zero": ("model.scale", {"low": -1.0, "high": 1.0}, 2.0, -2.0),
    "a wide range of logarithms": ("learning_rate", {"low": 1e-4, "high": 1e-1, "log": True}, 1.0, 1e-5),
    "a narrow range of logarithms": ("learning_rate", {"low": 1e-3, "high": 1e-2, "log": True}, 3e-2, 3e-4),
    "whole numbers": ("model.width", {"low": 8, "high": 64}, 92, 1),
    "whole numbers in steps": ("model.width", {"low": 64, "high": 128, "step": 16}, 160, 32),
    "steps with no more room": ("model.width", {"low": 8, "high": 56, "step": 16}, 88, None),
    "fractions in steps": ("model.scale", {"low": 1.0, "high": 2.0, "step": 0.25}, 2.5, None),
}


@both
@pytest.mark.parametrize("kind", RANGES)
@pytest.mark.parametrize("high", [True, False])
def test_a_range_whose_best_end_is_good_is_widened_there(kind: str, high: bool, maximize: bool) -> None:
    name, entry, up, down = RANGES[kind]
    expected = up if high else down
    records = study({name: entry, **OTHER}, RISING if high else FALLING, maximize, {name: AT})
    found = of_kind(records, "widen")
    if expected is None:
        assert not found
        return
    (told,) = found
    edge = "high" if high else "low"
    assert told.parameter == name
    assert told.evidence["edge"] == edge and told.evidence["now"] == pytest.approx(expected)
    assert type(told.evidence["now"]) is type(entry[edge])
    assert told.do.startswith(f"widen {name}: {edge} ")
    assert "p <0.001" in told.why and told.evidence["p"] < 0.001 and told.evidence["share"] > 0.5
    assert told.change is not None and dict(told.change.search[name]) == {edge: told.evidence["now"]}


@both
@pytest.mark.parametrize(
    ("choices", "high", "expected"),
    [
        ([16, 32, 64, 128], True, [16, 32, 64, 128, 256]),
        ([16, 32, 64, 128], False, [8, 16, 32, 64, 128]),
        ([1e-4, 1e-3, 1e-2], True, [1e-4, 1e-3, 1e-2, 1e-1]),
        ([1, 2, 4], False, None),
        ([0, 1, 2], False, None),
        (["a", "b", "c"], True, None),
        ([True, False], True, None),
    ],
)
def test_ordered_choices_get_one_more(choices: list[Any], high: bool, expected: Any, maximize: bool) -> None:
    entry = {"choices": choices}
    records = study({"model.size": entry, **OTHER}, RISING if high else FALLING, maximize, {"model.size": AT})
    found = of_kind(records, "widen")
    assert [entry.change.search["model.size"]["choices"] for entry in found if entry.change] == (
        [expected] if expected else []
    )


def test_choices_are_not_continued_beyond_one_that_was_not_tried() -> None:
    entry = {"choices": [16, 32, 64, 128]}
    records = study({"model.size": entry, **OTHER}, FALLING, places={"model.size": 0.25 + 0.75 * AT})
    assert set(records.parameters["model.size"]) == {32, 64, 128}
    assert not of_kind(records, "widen")


@pytest.mark.parametrize(
    ("name", "entry", "high"),
    [
        ("model.dropout", {"low": 0.0, "high": 0.9}, True),
        ("model.dropout", {"low": 0.0, "high": 0.5}, False),
        ("optimizer_kwargs.momentum", {"low": 0.5, "high": 0.999}, True),
        ("data.fraction", {"low": 0.1, "high": 1.0}, True),
        ("data.used", {"low": 0.1, "high": 1.0}, True),
        ("model.layers", {"low": 1, "high": 8}, False),
        ("model.layers", {"low": 0, "high": 8}, False),
        ("loss_weights.l1", {"low": 0.0, "high": 4.0}, False),
    ],
)
def test_nothing_is_widened_beyond_what_it_can_be(name: str, entry: Described, high: bool) -> None:
    assert not of_kind(study({name: entry, **OTHER}, RISING if high else FALLING, places={name: AT}), "widen")


@pytest.mark.parametrize(
    ("name", "entry", "most"),
    [
        ("model.dropout", {"low": 0.0, "high": 0.8}, 0.9),
        ("optimizer_kwargs.momentum", {"low": 0.5, "high": 0.99}, 0.999),
    ],
)
def test_what_can_be_a_little_more_is_widened_to_that(name: str, entry: Described, most: float) -> None:
    assert one(study({name: entry, **OTHER}, RISING, places={name: AT}), "widen").evidence["now"] == most


def test_an_edge_where_trials_diverge_is_bounded_not_widened() -> None:
    states = ["PRUNED" if at > 0.8 else "COMPLETE" for at in AT]
    notes = {"diverged": [at > 0.8 or None for at in AT]}
    records = study(RATE | OTHER, RISING, places={"learning_rate": AT}, states=states, notes=notes)
    assert not of_kind(records, "widen")
    told = one(records, "bound")
    assert told.parameter == "learning_rate"
    assert 0.5 < told.evidence["value"] / (1e-4 * 1000**0.8) < 2
    assert "12 of 12 trials above" in told.why and "0 of 48 others" in told.why
    assert told.change is not None
    assert 1e-4 < told.change.search["learning_rate"]["high"] < 1e-1


@both
def test_an_edge_at_which_trials_are_worse_again_is_not_widened(maximize: bool) -> None:
    response = np.where(AT < 0.85, AT, 0.2) + 0.02 * NOISE
    assert not of_kind(study(RATE | OTHER, response, maximize, {"learning_rate": AT}), "widen")


# narrow


@both
@pytest.mark.parametrize("kind", [kind for kind in RANGES if "steps" not in kind])
@pytest.mark.parametrize("high", [True, False])
def test_a_part_of_a_range_without_a_good_trial_is_cut_off(kind: str, high: bool, maximize: bool) -> None:
    name, entry, _, _ = RANGES[kind]
    response = -((AT - (0.2 if high else 0.8)) ** 2) + 0.01 * NOISE
    told = one(study({name: entry, **OTHER}, response, maximize, {name: AT}), "narrow")
    edge = "high" if high else "low"
    assert (told.parameter, told.evidence["edge"]) == (name, edge)
    good = [value for value, at in zip(values_at(entry, AT), AT, strict=True) if abs(at - (0.2 if high else 0.8)) < 0.1]
    now = told.evidence["now"]
    assert (max(good) <= now < entry["high"]) if high else (entry["low"] < now <= min(good))
    assert told.evidence["p"] < 0.01 and "is among the best quarter" in told.why
    assert told.change is not None and dict(told.change.search[name]) == {edge: now}


def test_a_range_with_good_trials_all_over_is_not_narrowed() -> None:
    response = np.where(np.abs(AT - 0.5) < 0.25, 0.0, 1.0) + 0.1 * NOISE
    assert not of_kind(study(RATE | OTHER, response, places={"learning_rate": AT}), "narrow")


OPTIMIZERS = {"optimizer": {"choices": ["Adam", "AdamW", "SGD"]}}


@both
def test_a_choice_without_a_good_trial_is_dropped(maximize: bool) -> None:
    response = np.where(AT < 2 / 3, 1.0, 0.0) + 0.2 * NOISE
    told = one(study(OPTIMIZERS | OTHER, response, maximize, {"optimizer": AT}), "narrow")
    assert told.do == "drop SGD from optimizer"
    assert told.why.startswith("none of the 20 trials with it is among the best quarter")
    assert told.change is not None and dict(told.change.search["optimizer"]) == {"choices": ["Adam", "AdamW"]}


def test_where_one_choice_is_left_it_is_fixed() -> None:
    response = np.where(AT < 1 / 3, 1.0, 0.0) + 0.1 * NOISE
    told = one(study(OPTIMIZERS | OTHER, response, places={"optimizer": AT}), "narrow")
    assert told.evidence["dropped"] == ["AdamW", "SGD"]
    assert told.change is not None and dict(told.change.fixed) == {"optimizer": "Adam"}


def test_a_choice_that_few_trials_had_is_kept() -> None:
    response = np.where(AT < 0.95, 1.0, 0.0) + 0.2 * NOISE
    entry = {"choices": ["Adam"] * 19 + ["SGD"]}
    places = {"optimizer": AT}
    records = study({"optimizer": entry, **OTHER}, response, places=places)
    assert not of_kind(records, "narrow")


NORMS = {"optimizer": {"choices": ["Adam", "SGD"]}, "model.norm": {"choices": ["batch", "layer", "none"]}}


def normed(seed: int) -> Records:
    """Adam is better than SGD; only with SGD there is a norm, of which batch and layer are equally good."""
    draw = np.random.default_rng(seed)
    adam = np.arange(120) < 60
    norm = draw.integers(3, size=120)
    response = 2.0 * adam - 1.5 * (norm == 2) * ~adam + draw.normal(size=120) * 0.5
    places = {"optimizer": np.where(adam, 0.2, 0.8), "model.norm": norm / 3 + 0.1}
    return study(NORMS, response, places=places, inactive={"model.norm": adam})


def test_a_conditional_choice_is_judged_by_the_trials_in_which_it_was_active() -> None:
    dropped = [entry.do for seed in range(40) for entry in of_kind(normed(seed), "narrow", "model.norm")]
    assert len(dropped) <= 2, "almost all good trials are of Adam, which says nothing of any norm"


# fix


@both
def test_what_does_nothing_beside_what_decides_is_fixed_at_the_best_trials_value(maximize: bool) -> None:
    records = study(RATE | OTHER, -((AT - 0.5) ** 2) + 0.02 * NOISE, maximize, {"learning_rate": AT})
    told = one(records, "fix")
    best = int(np.argmax(records.values if maximize else -records.values))
    assert told.change is not None and dict(told.change.fixed) == {"width": records.parameters["width"][best]}
    assert told.do == f"fix width at {records.parameters['width'][best]}"
    assert told.evidence["most"] <= 0.15 and f"at most {told.evidence['most']:.0%}" in told.why


@pytest.mark.parametrize(("low", "high"), [(0.9, 0.9999), (100.0, 100.5), (0.0, 1e-3), (-2.0, 2.0)])
def test_what_is_fixed_stays_in_its_range_and_where_it_was(low: float, high: float) -> None:
    search = RATE | {"x": {"low": low, "high": high}}
    records = study(search, -((AT - 0.5) ** 2) + 0.02 * NOISE, places={"learning_rate": AT})
    told = one(records, "fix", "x")
    best = records.parameters["x"][int(np.argmax(records.values))]
    assert low <= told.evidence["value"] <= high
    assert told.evidence["value"] == pytest.approx(best, abs=0.06 * (high - low))


def test_nothing_is_fixed_where_it_is_conditional_a_seed_or_little_is_known() -> None:
    decided = -((AT - 0.5) ** 2) + 0.02 * NOISE
    idle = {"width": [k % 3 == 0 for k in range(COUNT)]}
    assert not of_kind(study(RATE | OTHER, decided, places={"learning_rate": AT}, inactive=idle), "fix")
    seeds = {"data_seed": {"low": 0, "high": 100}}
    assert not of_kind(study(RATE | seeds, decided, places={"learning_rate": AT}), "fix")
    assert not of_kind(study(RATE | OTHER, NOISE), "fix")
    few = study(RATE | OTHER, decided[:15], places={"learning_rate": AT[:15]})
    assert not of_kind(few, "fix")


# finer


@both
@pytest.mark.parametrize(
    ("name", "choices", "new"),
    [("model.heads", [2, 4, 8], [3, 6]), ("learning_rate", [1e-4, 1e-3, 1e-2], [0.000316, 0.00316])],
)
def test_between_a_good_level_and_bad_ones_values_are_tried(
    name: str, choices: list[Any], new: list[Any], maximize: bool
) -> None:
    response = np.where(np.abs(AT - 0.5) < 1 / 6, 1.0, 0.0) + 0.1 * NOISE
    told = one(study({name: {"choices": choices}, **OTHER}, response, maximize, {name: AT}), "finer")
    assert told.evidence["new"] == pytest.approx(new)
    assert "is far better than" in told.why
    assert told.change is not None and told.change.search[name]["choices"] == pytest.approx(sorted([*choices, *new]))


def test_levels_that_rise_slowly_need_none_between() -> None:
    entry = {"choices": [2, 4, 8]}
    for response in (np.where(AT < 1 / 3, 0.0, np.where(AT < 2 / 3, 1.0, 0.9)), np.where(AT < 1 / 3, 1.0, 0.0)):
        records = study({"model.heads": entry, **OTHER}, response + 0.1 * NOISE, places={"model.heads": AT})
        assert not of_kind(records, "finer")
    whole = study({"model.heads": {"choices": [2, 3, 4]}, **OTHER}, _peak(), places={"model.heads": AT})
    assert not of_kind(whole, "finer"), "between 2, 3 and 4 there is no whole number"


def _peak() -> np.ndarray:
    return np.where(np.abs(AT - 0.5) < 1 / 6, 1.0, 0.0) + 0.1 * NOISE
