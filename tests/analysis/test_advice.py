"""Every rule of advice: it speaks where it should, with its evidence, and is silent beside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy import stats

from tuner.analysis import StudyData, analyze_data
from tuner.analysis.advice import RULES, Advice
from tuner.analysis.advice.findings import nice
from tuner.analysis.advice.rates import _within
from tuner.analysis.divergence import Threshold
from tuner.analysis.ends import largest_correlation
from tuner.recipe import Recipe
from tuner.storage.reading import EPOCH_COLUMNS, Records
from tuner.storage.studies import WARM_START

COUNT = 60
AT = np.random.default_rng(1).permutation(COUNT) / (COUNT - 1)
"""Where each trial's value stands in the range that matters, 0 to 1."""
NOISE = np.random.default_rng(2).normal(size=COUNT)

Described = dict[str, Any]


def kind_of(entry: Described) -> BaseDistribution:
    """Optuna's word for a description."""
    if "choices" in entry:
        return CategoricalDistribution(entry["choices"])
    kind = IntDistribution if isinstance(entry["low"], int) and isinstance(entry["high"], int) else FloatDistribution
    more = {key: entry[key] for key in ("log", "step") if key in entry}
    return kind(entry["low"], entry["high"], **more)


def values_at(entry: Described, places: np.ndarray) -> list[Any]:
    """Values spread over a range, or the choices in their order."""
    if "choices" in entry:
        choices = entry["choices"]
        return [choices[min(int(place * len(choices)), len(choices) - 1)] for place in places]
    low, high = entry["low"], entry["high"]
    if entry.get("log"):
        found = [math.exp(math.log(low) + place * (math.log(high) - math.log(low))) for place in places]
        return [min(max(value, low), high) for value in found]
    found = [low + place * (high - low) for place in places]
    if step := entry.get("step"):
        found = [low + round((value - low) / step) * step for value in found]
    return [round(value) for value in found] if isinstance(low, int) and isinstance(high, int) else found


def study(
    search: Mapping[str, Described],
    response: Sequence[float],
    maximize: bool = True,
    places: Mapping[str, np.ndarray] | None = None,
    states: Sequence[str] | None = None,
    **more: Any,
) -> Records:
    """A study: `response` is better where it is higher, whichever way the metric goes."""
    count = len(response)
    draw = np.random.default_rng(3)
    where = {name: (places or {}).get(name, draw.permutation(count) / max(1, count - 1)) for name in search}
    sign = 1.0 if maximize else -1.0
    states = states or ["COMPLETE"] * count
    values = [sign * value if state == "COMPLETE" else math.nan for value, state in zip(response, states, strict=True)]
    recipe = Recipe().model_dump() | more.pop("recipe", {})
    space = {"task": "digits", "sampler": "tpe", "search": dict(search), "recipe": recipe} | more.pop("space", {})
    curves = more.pop("curves", [])
    epochs = more.pop("epochs", [])
    inactive = more.pop("inactive", {})
    parameters = {name: values_at(entry, where[name]) for name, entry in search.items()}
    for name, idle in inactive.items():
        parameters[name] = [pd.NA if off else value for value, off in zip(parameters[name], idle, strict=True)]
    reports = [
        (number, step, sign * value) for number, curve in enumerate(curves) for step, value in enumerate(curve, 1)
    ]
    return Records(
        name="s",
        directions=("MAXIMIZE" if maximize else "MINIMIZE",),
        attributes={"space": space},
        states=list(states),
        values=np.array(values),
        started=pd.DatetimeIndex([pd.NaT] * count),
        completed=pd.DatetimeIndex([pd.NaT] * count),
        notes=more.pop("notes", {}),
        parameters=parameters,
        distributions={name: kind_of(entry) for name, entry in search.items()},
        reports=pd.DataFrame(reports, columns=["trial", "step", "value"]).astype({"trial": int, "step": int}),
        epochs=pd.DataFrame(epochs, columns=list(EPOCH_COLUMNS)),
        **more,
    )


def advice(records: Records) -> list[Advice]:
    return list(analyze_data(StudyData(records)).advice)


def of_kind(records: Records, kind: str, parameter: str | None = None) -> list[Advice]:
    """The advice of a kind."""
    return [entry for entry in advice(records) if entry.kind == kind and parameter in (None, entry.parameter)]


def one(records: Records, kind: str, parameter: str | None = None) -> Advice:
    """The only advice of a kind."""
    found = of_kind(records, kind, parameter)
    assert len(found) == 1, advice(records)
    return found[0]


OTHER = {"width": {"low": 8, "high": 64}}
"""A parameter beside, that does nothing."""

both = pytest.mark.parametrize("maximize", [True, False])

# widen

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


RATE = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}


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


# thresholds


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


# curves

EPOCHS = 20
STEPS = np.arange(EPOCHS)


def curved(curve: np.ndarray, rate: np.ndarray | float = 0.01, maximize: bool = True, **more: Any) -> Records:
    """60 trials that learn along one curve."""
    curves = [10 * curve + noise for noise in NOISE]
    rates = np.broadcast_to(np.asarray(rate, dtype=float), EPOCHS)
    epochs = [
        (trial, epoch, 1.0, 1.0, rates[epoch - 1], 1.0, 1.0) for trial in range(COUNT) for epoch in range(1, EPOCHS + 1)
    ]
    notes = {"epochs_asked": [EPOCHS] * COUNT, "epochs_done": [EPOCHS] * COUNT}
    return study(
        more.pop("search", OTHER),
        [max(values) for values in curves],
        maximize,
        curves=curves,
        epochs=epochs,
        notes=notes,
        **more,
    )


ON, FLAT = STEPS / EPOCHS, 1 - np.exp(-STEPS / 1.0)


@both
def test_curves_that_go_on_to_the_end_ask_for_more_epochs(maximize: bool) -> None:
    told = one(curved(ON, maximize=maximize), "more_epochs")
    assert "5 of the best 5 trials have their best epoch at the end" in told.why
    assert told.evidence["last_fifth"] == pytest.approx(4 / 19)
    assert told.change is not None and dict(told.change.recipe) == {"epochs": 40}
    stopping = {"early_stopping": {"monitor": "val_loss", "patience": 5}}
    assert "early stopping never fired" in one(curved(ON, recipe=stopping), "more_epochs").why
    assert not of_kind(curved(FLAT, maximize=maximize), "more_epochs")


def test_searched_epochs_are_not_set_by_advice() -> None:
    told = one(curved(ON, search={"epochs": {"low": 5, "high": 20}}), "more_epochs")
    assert told.change is None


@both
def test_a_plateau_at_a_constant_rate_asks_for_a_scheduler(maximize: bool) -> None:
    records = curved(FLAT, maximize=maximize)
    told = one(records, "plateau")
    assert "at a constant rate" in told.why and told.evidence["epochs"] == EPOCHS and told.evidence["epoch"] <= 6
    assert told.change is not None and told.change.recipe["scheduler"] == "ReduceLROnPlateau"
    assert not of_kind(records, "fewer_epochs")
    assert not of_kind(curved(ON), "plateau")


def test_a_plateau_although_the_rate_fell_asks_for_fewer_epochs() -> None:
    records = curved(FLAT, rate=0.01 * 0.8**STEPS)
    told = one(records, "fewer_epochs")
    assert f"of {EPOCHS}" in told.why
    assert not of_kind(records, "plateau")
    stopping = {"early_stopping": {"monitor": "val_loss", "patience": 5}}
    assert not of_kind(curved(FLAT, rate=0.01 * 0.8**STEPS, recipe=stopping), "fewer_epochs")


FALLING_LOSSES = {
    "by decades": lambda step: np.exp(-0.5 * step),
    "by a power": lambda step: (1.0 + step) ** -1.5,
}


@pytest.mark.parametrize("kind", FALLING_LOSSES)
@pytest.mark.parametrize("rate", [0.01, 0.01 * 0.8**STEPS])
def test_a_loss_that_still_falls_by_its_ratio_is_to_go_on(kind: str, rate: Any) -> None:
    """By its half it has lost 98 % of what it began with, and falls many-fold from there."""
    records = curved(ON, rate=rate, maximize=False)
    losses = [(FALLING_LOSSES[kind](STEPS) * math.exp(0.1 * noise)).tolist() for noise in NOISE]
    rows = [(trial, step, value) for trial, curve in enumerate(losses) for step, value in enumerate(curve, 1)]
    records = replace(
        records,
        values=np.array([curve[-1] for curve in losses]),
        reports=pd.DataFrame(rows, columns=["trial", "step", "value"]),
    )
    assert not of_kind(records, "fewer_epochs") and not of_kind(records, "plateau")
    assert "of all they gained (of the logarithm)" in one(records, "more_epochs").why


@both
def test_a_loss_that_has_reached_its_floor_is_not_to_go_on(maximize: bool) -> None:
    records = curved(FLAT, rate=0.01 * 0.8**STEPS, maximize=maximize)
    if not maximize:  # a positive loss that ends at a third of what it began with
        records = replace(records, reports=records.reports.assign(value=records.reports["value"] + 15.0))
    assert of_kind(records, "fewer_epochs") and not of_kind(records, "more_epochs")


def test_a_scheduler_that_never_stepped_is_told() -> None:
    idle = {"scheduler": "ReduceLROnPlateau", "scheduler_kwargs": {"patience": 10}}
    told = one(curved(ON, recipe=idle), "scheduler_idle")
    assert "never changed the rate in 60 trials of up to 20 epochs (patience 10)" in told.why
    assert told.change is not None and dict(told.change.recipe) == {"scheduler_kwargs.patience": 2}
    assert told.do.startswith("lower the patience of ReduceLROnPlateau to 2")
    assert not of_kind(curved(ON, rate=0.01 * 0.9**STEPS, recipe=idle), "scheduler_idle")
    assert not of_kind(curved(ON, recipe={"scheduler": None}), "scheduler_idle")
    assert not of_kind(curved(ON, recipe={"scheduler": "ConstantLR"}), "scheduler_idle")


@pytest.mark.parametrize(("patience", "lower"), [(2, 1), (1, 0), (0, None)])
def test_a_patience_is_lowered_and_never_raised(patience: int, lower: int | None) -> None:
    idle = {"scheduler": "ReduceLROnPlateau", "scheduler_kwargs": {"patience": patience}}
    told = one(curved(ON, recipe=idle), "scheduler_idle")
    assert dict(told.change.recipe if told.change else {}) == (
        {} if lower is None else {"scheduler_kwargs.patience": lower}
    )


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


@pytest.mark.parametrize("count", [3, 9])
def test_the_smallest_studies_are_told_to_go_on(count: int) -> None:
    told = one(study(RATE | OTHER, list(AT[:count])), "more_trials")
    assert told.evidence == {"trials": count, "parameters": 2, "needed": 20}


# fitting


def gapped(gaps: np.ndarray, validation: float = 0.5, **more: Any) -> Records:
    notes = {"gap": [float(gap) for gap in gaps], "final_val_loss": [validation] * COUNT}
    return study(RATE | OTHER | more.pop("search", {}), NOISE, notes=notes, **more)


def test_a_large_gap_of_the_best_trial_is_told_with_what_goes_with_it() -> None:
    told = one(gapped(0.2 + 0.1 * AT, places={"width": AT}), "overfits")
    best = 0.2 + 0.1 * AT[int(np.argmax(NOISE))]
    assert told.evidence["gap"] == pytest.approx(best) and told.evidence["relative"] == pytest.approx(best / 0.5)
    assert "the gap is larger at higher width" in told.why
    assert "dropout" in told.do and "weight decay" in told.do
    searched = gapped(np.full(COUNT, 0.2), search={"model.dropout": {"low": 0.0, "high": 0.5}})
    assert "dropout" not in one(searched, "overfits").do
    assert not of_kind(gapped(np.full(COUNT, 0.01)), "overfits")
    assert not of_kind(gapped(np.full(COUNT, 0.2), validation=5.0), "overfits")


def cut(early_tells: bool, seed: int = 5, count: int = COUNT, loose: float = 0.0) -> Records:
    """Every third trial is pruned at epoch 3 of 10; `loose` is the deviation of values there from final ones, of 1."""
    random = np.random.default_rng(seed)
    final = random.normal(size=count)
    early = (final if early_tells else 0) + (loose if early_tells else 1.0) * random.normal(size=count)
    states = ["PRUNED" if place % 3 == 0 else "COMPLETE" for place in range(count)]
    curves = []
    for place in range(count):
        at_three = early[place] - (1.5 if states[place] == "PRUNED" else 0)
        curve = np.linspace(at_three - 0.2, at_three, 3).tolist()
        curves.append(
            curve if states[place] == "PRUNED" else [*curve, *np.linspace(at_three, final[place], 7).tolist()]
        )
    return study(RATE | OTHER, final, states=states, curves=curves)


def test_pruning_by_early_values_that_say_nothing_comes_too_early() -> None:
    told = one(cut(early_tells=False, count=300), "prune_later")
    assert told.evidence["epoch"] == 3 and told.evidence["agreement"] < told.evidence["most"] < 0.3
    assert "prune later than epoch 3" in told.do
    assert told.why.startswith("among the trials that went on, ") and "rank correlation" in told.why
    assert not of_kind(cut(early_tells=True), "prune_later")


@pytest.mark.parametrize(("pruned", "told"), [(0, False), (15, False), (30, False), (33, True), (40, True)])
def test_where_nearly_all_are_pruned_more_are_to_end(pruned: int, told: bool) -> None:
    states = ["PRUNED"] * pruned + ["COMPLETE"] * (40 - pruned)
    curves = [[1.0, 2.0] if state == "PRUNED" else [1.0, 2.0, 3.0] for state in states]
    found = of_kind(study(RATE, list(AT[:40]), states=states, curves=curves), "prune_less")
    assert [entry.evidence for entry in found] == [{"pruned": pruned, "complete": 40 - pruned}] * told


def test_of_few_trials_it_is_seldom_said_that_pruning_comes_too_early_where_it_does_not() -> None:
    """Values that go with final ones at a rank correlation of 0.3 or more, over 12 complete trials."""
    assert (
        sum(bool(of_kind(cut(early_tells=True, loose=3.0, seed=k, count=18), "prune_later")) for k in range(100)) <= 8
    )


@pytest.mark.parametrize(("rho", "count"), [(0.3, 8), (0.3, 30), (0.7, 15), (-0.5, 12)])
def test_a_rank_correlation_is_below_its_bound_in_19_of_20_samples(rho: float, count: int) -> None:
    random = np.random.default_rng(8)
    true, held = 6 / math.pi * math.asin(rho / 2), 0
    for _ in range(1000):
        first, second = random.multivariate_normal([0, 0], [[1, rho], [rho, 1]], count).T
        held += true <= largest_correlation(float(stats.spearmanr(first, second).statistic), count)
    assert 925 <= held <= 985


@pytest.mark.parametrize("steps", [1, 100])
def test_pruning_is_judged_at_a_step_that_was_reported(steps: int) -> None:
    """Of trials pruned at the third and the fourth report, the middle lies between."""
    records = cut(early_tells=True)
    pruned = [number for number, state in enumerate(records.states) if state == "PRUNED"]
    more = pd.DataFrame([(number, 4, -5.0) for number in pruned[::2]], columns=["trial", "step", "value"])
    reports = pd.concat([records.reports, more]).sort_values(["trial", "step"], ignore_index=True)
    ends = analyze_data(StudyData(replace(records, reports=reports.assign(step=reports["step"] * steps)))).ends
    assert len(pruned) % 2 == 0 and ends.at == 3 * steps
    assert ends.agreement == pytest.approx(1.0)


def test_where_nothing_matters_something_else_is_to_be_searched() -> None:
    told = one(study(RATE | OTHER, NOISE), "no_effect")
    assert told.evidence == {"trials": COUNT, "parameters": 2}
    assert not of_kind(study(RATE | OTHER, RISING, places={"learning_rate": AT}), "no_effect")
    assert not of_kind(study(RATE | OTHER, NOISE[:15]), "no_effect")


def test_few_trials_for_many_parameters_ask_for_more() -> None:
    told = one(study(RATE | OTHER, NOISE[:15]), "more_trials")
    assert told.evidence == {"trials": 15, "parameters": 2, "needed": 20}
    assert told.change is not None and told.change.trials == 20
    assert not of_kind(study(RATE | OTHER, NOISE), "more_trials")
    assert not of_kind(study(RATE | OTHER, NOISE[:15], space={"sampler": "grid"}), "more_trials")


# broken


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


def test_what_was_taken_over_counts_towards_no_number_of_trials() -> None:
    earlier = [{"study": "before", "trial": 0}] * 4 + [None] * 2
    told = one(study(RATE | OTHER, list(AT[:6]), notes={WARM_START: earlier}), "more_trials")
    assert told.evidence == {"trials": 6, "parameters": 2, "needed": 16} and "go on to 16 trials" in told.do


def test_a_study_that_confirms_another_needs_no_more_trials() -> None:
    records = study(RATE | OTHER, list(AT[:6]))
    confirming = replace(records, attributes={**records.attributes, "confirms": "before"})
    assert not of_kind(confirming, "more_trials")


def test_every_rule_is_tested_here() -> None:
    """A new rule wants a test: this list is to grow with it."""
    assert {rule.__name__ for rule in RULES} == {
        "out_of_memory", "diverges", "more_epochs", "never_stepped", "widen", "only_high_rates", "narrow", "coarse",
        "plateau", "overfits", "gentler_pruning", "less_pruning", "fix", "fewer_epochs", "no_effect", "more_trials",
        "failing", "all_the_same",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "up", "expected"),
    [
        (0.0123, None, 0.01), (0.0123, True, 0.02), (0.0123, False, 0.01), (0.01, True, 0.01), (0.01, False, 0.01),
        (9.0, None, 10.0), (-0.0123, True, -0.01), (-0.0123, False, -0.02), (0.0, True, 0.0), (4e-320, None, 5e-320),
    ],
)  # fmt: skip
def test_nice_numbers(value: float, up: bool | None, expected: float) -> None:
    assert nice(value, up) == pytest.approx(expected, rel=0.3 if abs(value) < 1e-300 else 1e-9)
