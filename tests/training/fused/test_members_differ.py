"""Trials of one group that differ in all that may differ train as torch trains each of them, in float64."""

from __future__ import annotations

from typing import Any

import pytest
from fusing import Lively, assert_close, in_double, plain, recipe_with, shown, trained

from tuner.recipe import EarlyStopping, Recipe, SchedulerConfigs
from tuner.training.fused.member import Member
from tuner.training.run import Goal

TERMS = {"mse": 1.0, "l1": 0.25, "drift": 0.1}

PLATEAU = {"scheduler": "ReduceLROnPlateau", "scheduler_kwargs": {"patience": 0, "threshold": 0.05}}


def over_time(*rows: dict[str, Any], steps: int | None = None) -> dict[str, Any]:
    return {"timeline": {"keyframes": list(rows), **({"steps": steps} if steps else {})}, "scheduler": None}


CASES: dict[str, dict[str, Any]] = {
    "steady": {},
    "other seeds": {"seed": 1, "data_seed": 2, "dropout_seed": 3},
    "noisy batches": {"data": {"noise": 0.3}, "seed": 4},
    "clipped": {"gradient_clip": 0.05, "optimizer": "SGD"},
    "hardly clipped": {"gradient_clip": 3.0, "learning_rate": 0.2},
    "parts at rates of their own": {"lr_multipliers": {"3.": 0.1, "1.": 2.0}, "optimizer": "AdamW"},
    "a part that stands still": {"lr_multipliers": {"3.": 0.0}, "optimizer": "RMSprop"},
    "parts of torch's own": {"lr_multipliers": {"0.": 0.5}, "optimizer": "NAdam", "scheduler": "CosineAnnealingLR"},
    "two terms": {"loss_weights": {"mse": 2.0, "l1": 0.5}},
    "another loss": {"loss": "l1", "optimizer": "Adagrad"},
    "every loss": {"loss": None},
    "no loss": {"loss_weights": {"mse": 0.0}, "optimizer": "AdamW", "optimizer_kwargs": {"weight_decay": 0.3}},
    "decayed": {"optimizer": "AdamW", "optimizer_kwargs": {"weight_decay": 0.5, "betas": [0.8, 0.9]}},
    "stopped early": {"early_stopping": EarlyStopping(monitor="val_l1", patience=1, min_delta=0.1)},
    "stopped by a metric": {"early_stopping": EarlyStopping(monitor="val_close", patience=2, mode="max"), "seed": 5},
    "ends before the others": {"epochs": 2, "seed": 6},
    "a plateau": PLATEAU,
    "a plateau, step by step": {
        **PLATEAU,
        "scheduler_configs": SchedulerConfigs(interval="step", frequency=3, monitor="val_close"),
    },
    "a cosine, step by step": {
        "scheduler": "CosineAnnealingLR",
        "scheduler_configs": SchedulerConfigs(interval="step", frequency=2),
    },
    "momentum in cycles from none": {
        "optimizer": "SGD",
        "optimizer_kwargs": {"momentum": 0.0},
        "scheduler": "OneCycleLR",
        "scheduler_configs": SchedulerConfigs(interval="step"),
    },
    "cycles in RMSprop": {
        "optimizer": "RMSprop",
        "learning_rate": 0.001,
        "scheduler": "CyclicLR",
        "scheduler_kwargs": {"max_lr": 0.01, "step_size_up": 4},
        "scheduler_configs": SchedulerConfigs(interval="step"),
    },
    "a rate over time": over_time(
        {"STEP": 0, "learning_rate:log:linear": 1e-3}, {"STEP": 18, "learning_rate:log:linear": 0.1}
    ),
    "a rate over time, stretched": {
        **over_time({"STEP": 0, "learning_rate": 0.0}, {"STEP": 1000, "learning_rate": 0.2}, steps=1000),
        "lr_multipliers": {"3.": 0.5},
    },
    "weights over time": {
        **over_time({"STEP": 0, "mse": 0.1, "l1": 1.0}, {"STEP": 12, "mse": 2.0, "l1": 0.1}),
        "loss_weights": TERMS,
    },
    "a loss that comes and goes": {
        **over_time(
            {"STEP": 0, "drift:linear:step": 0.0},
            {"STEP": 7, "drift:linear:step": 2.0},
            {"STEP": 11, "drift:linear:step": 0.0},
        ),
        "loss_weights": TERMS,
    },
    "options over time": {
        **over_time(
            {"STEP": 0, "weight_decay": 0.0, "momentum": 0.5}, {"STEP": 13, "weight_decay": 0.3, "momentum": 0.9}
        ),
        "optimizer": "AdamW",
        "optimizer_kwargs": {"weight_decay": 0.0},
    },
    "momentum over time": {
        **over_time({"STEP": 0, "momentum:linear:step": 0.0}, {"STEP": 6, "momentum:linear:step": 0.9}),
        "optimizer": "SGD",
        "optimizer_kwargs": {"momentum": 0.0},
    },
    "options of torch's own over time": {
        **over_time({"STEP": 0, "weight_decay": 0.0}, {"STEP": 13, "weight_decay": 0.3}),
        "optimizer": "Adamax",
    },
    "a bound over time": over_time({"STEP": 0, "gradient_clip": 0.01}, {"STEP": 16, "gradient_clip": 1.0}),
    "noise over time": over_time({"STEP": 0, "noise": 0.0}, {"STEP": 16, "noise": 0.5}),
    "phases and actions": {
        **over_time(
            {"STEP": 0, "noise": 0.1, "ACTION": "mark"},
            {"STEP": 5, "PHASE": "turned", "ACTION": "shake", "noise": 0.2},
            {"STEP": 13, "PHASE": "", "ACTION": "mark", "noise": 0.0},
        ),
        "loss_weights": TERMS,
    },
}

GOALS = {"best": Goal("val_close", maximize=True), "last": Goal("val_mse", value="last")}


def recipes() -> dict[str, Recipe]:
    return {name: recipe_with(**{"epochs": 4, "data": {"noise": 0.0}, **values}) for name, values in CASES.items()}


@pytest.fixture(scope="module", params=GOALS)
def group(request: pytest.FixtureRequest) -> tuple[Goal, dict[str, Member]]:
    """All of them, trained as one group."""
    goal, found = GOALS[request.param], recipes()
    members = trained(in_double(Lively(), traces=True), *found.values(), goal=goal)
    return goal, dict(zip(found, members, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_each_trains_as_torch_trains_it(group: tuple[Goal, dict[str, Member]], name: str) -> None:
    goal, members = group
    member = members[name]
    run = plain(in_double(Lively(), traces=True), member.recipe, goal)
    found, expected = shown(member), shown(run)
    series = found.pop("series"), expected.pop("series")
    assert_close(*series, rel=1e-6, abs=1e-6)  # of float32
    assert_close(found, expected, rel=1e-9, abs=1e-9)


def test_they_do_what_they_are_there_for(group: tuple[Goal, dict[str, Member]]) -> None:
    _, members = group
    assert members["stopped early"].reason.startswith("early stopping")
    assert any(record.notes for record in members["a plateau"].records)
    assert members["phases and actions"].state["marks"] == 2
    assert members["ends before the others"].epochs_done == 2
    assert members["steady"].epochs_done == 4
