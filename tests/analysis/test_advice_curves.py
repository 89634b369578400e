"""Advice on epochs and schedulers, from the best trials' curves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from advised import COUNT, NOISE, OTHER, both, of_kind, one, study

from tuner.storage.records import Records

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
