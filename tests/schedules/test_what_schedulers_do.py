"""What is said of a scheduler before training: that it changes nothing, or what it overwrites."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tuner import schedules
from tuner.recipe import SchedulerConfigs


def optimizer(kind: type[torch.optim.Optimizer] = torch.optim.Adam) -> torch.optim.Optimizer:
    return kind([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def why(
    name: str | None, epochs: int = 10, steps: int = 4, interval: str = "epoch", frequency: int = 1, **options: Any
) -> str:
    configs = SchedulerConfigs(interval=interval, frequency=frequency)
    return schedules.why_constant(name, optimizer(), options, configs, epochs, steps) or ""


ONE = {"scheduler": "ConstantLR", "factor": 1.0}


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("StepLR", {"step_size": 30}, "first changes the rate after 30 epochs; the run has 10"),
        ("StepLR", {"step_size": 10}, "first changes the rate after 10 epochs; the run has 10"),
        ("StepLR", {"step_size": 9}, ""),
        ("StepLR", {"step_size": 50, "interval": "step"}, "first changes the rate after 50 steps; the run has 40"),
        (
            "StepLR",
            {"step_size": 3, "frequency": 4},
            "first changes the rate after 12 epochs, stepping every 4 epochs; the run has 10",
        ),
        ("CosineAnnealingLR", {"epochs": 1}, "first changes the rate after 1 epoch; the run has 1"),
        ("CosineAnnealingLR", {}, ""),
        ("ConstantLR", {"epochs": 5}, "first changes the rate after 5 epochs; the run has 5"),
        (
            "ConstantLR",
            {"factor": 1.0},
            "keeps the rate as it is, in this run and in one of 200 epochs, with factor 1.0",
        ),
        (
            "ReduceLROnPlateau",
            {"min_lr": 0.1, "patience": 0},
            "keeps the rate as it is, in this run and in one of 200 epochs, with min_lr 0.1, patience 0",
        ),
        ("ReduceLROnPlateau", {}, "lowers the rate after 12 epochs at the earliest (patience 10); the run has 10"),
        ("ReduceLROnPlateau", {"patience": 7}, ""),
        ("OneCycleLR", {}, ""),
        (
            "OneCycleLR",
            {"max_lr": 0.0},
            "keeps the rate as it is, in this run, with max_lr 0.0",
        ),
        (
            "LambdaLR",
            {"lr_lambda": "1 if epoch < 20 else 0.1"},
            "first changes the rate after 20 epochs; the run has 10",
        ),
        (
            "SequentialLR",
            {"milestones": [20], "schedulers": [ONE, {"scheduler": "ConstantLR"}]},
            "first changes the rate after 20 epochs; the run has 10",
        ),
    ],
)
def test_a_rate_that_never_changes_is_explained(name: str, options: dict[str, Any], sentence: str) -> None:
    assert why(name, **options) == (f"{name} {sentence}" if sentence else "")


def test_no_scheduler_needs_no_reason() -> None:
    assert why(None) == ""


@given(
    epochs=st.integers(1, 25),
    patience=st.integers(0, 12),
    frequency=st.integers(1, 3),
    interval=st.sampled_from(["epoch", "step"]),
)
@settings(deadline=None, max_examples=60)
def test_a_plateau_is_said_to_be_idle_exactly_where_it_is(
    epochs: int, patience: int, frequency: int, interval: str
) -> None:
    """torch's own scheduler, given the same value again and again, does or does not change the rate before the end."""
    built = optimizer()
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(built, patience=patience)
    rates = set()
    for step in range(1, 4 * epochs + 1):
        rates.add(built.param_groups[0]["lr"])
        recorded = step > 4 or interval == "epoch"
        due = step % frequency == 0 if interval == "step" else step % (4 * frequency) == 0
        if due and recorded:
            scheduler.step(1.0)
    found = why("ReduceLROnPlateau", epochs, 4, interval, frequency, patience=patience)
    assert bool(found) == (len(rates) == 1)


@given(size=st.integers(1, 60), epochs=st.integers(1, 30))
@example(size=20, epochs=1)  # even in a run twenty times as long the change would come after the last epoch
@settings(deadline=None, max_examples=60)
def test_the_first_change_that_is_named_is_torchs(size: int, epochs: int) -> None:
    found = why("StepLR", epochs, step_size=size)
    named = re.search(r"after (\d+) epoch", found)
    assert (int(named[1]) if named else None) == (size if epochs <= size < 20 * epochs else None)
    assert bool(found) == (size >= epochs)


def test_long_runs_by_step_are_followed_only_so_far() -> None:
    assert why("StepLR", 1000, 1000, "step", step_size=999_999) == ""
    assert why("StepLR", 1000, 1000, "step", step_size=10) == ""


ONE_CYCLE = {"scheduler": "OneCycleLR", "max_lr": 0.1}


@pytest.mark.parametrize(
    ("name", "options", "paths"),
    [
        (None, {}, []),
        ("CosineAnnealingLR", {"eta_min": 0.1}, []),
        ("OneCycleLR", {"max_lr": 0.1, "cycle_momentum": False}, ["learning_rate"]),
        ("OneCycleLR", {"max_lr": "auto", "cycle_momentum": False}, []),
        ("OneCycleLR", {}, ["optimizer_kwargs.momentum", "optimizer_kwargs.betas"]),
        ("CyclicLR", {"max_lr": 0.1, "cycle_momentum": False}, []),
        ("CyclicLR", {"max_lr": 0.1, "base_lr": 0.01, "cycle_momentum": False}, ["learning_rate"]),
        (
            "SequentialLR",
            {"schedulers": [{"scheduler": "LinearLR"}, ONE_CYCLE], "milestones": [3]},
            ["learning_rate", "optimizer_kwargs.momentum", "optimizer_kwargs.betas"],
        ),
        (
            "ChainedScheduler",
            {
                "schedulers": [
                    {
                        "scheduler": "SequentialLR",
                        "milestones": [3],
                        "schedulers": [ONE_CYCLE, {"scheduler": "LinearLR"}],
                    }
                ]
            },
            ["learning_rate", "optimizer_kwargs.momentum", "optimizer_kwargs.betas"],
        ),
    ],
)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_what_is_said_to_be_overwritten_has_no_effect(
    name: str | None, options: dict[str, Any], paths: list[str], kind: type[torch.optim.Optimizer]
) -> None:
    """The same rates and momenta from another learning rate and another momentum, exactly where it is said so."""
    assert list(schedules.overwrites(name, options)) == paths

    def moved(rate: float, momentum: float) -> dict[str, Any]:
        own = {"momentum": momentum} if kind is torch.optim.SGD else {"betas": (momentum, 0.999)}
        built = kind([torch.nn.Parameter(torch.zeros(1))], lr=rate, **own)
        found = schedules.rates(name, built, options, SchedulerConfigs(), 12, 1)
        return {"momentum": [[momentum]] * 12, **found}

    usual, faster, heavier = moved(0.02, 0.7), moved(0.04, 0.7), moved(0.02, 0.6)
    assert (usual["learning_rate"] == faster["learning_rate"]) == ("learning_rate" in paths)
    assert (usual["momentum"] == heavier["momentum"]) == ("optimizer_kwargs.momentum" in paths)


def test_reasons_name_the_scheduler_and_its_option() -> None:
    reasons = schedules.overwrites("OneCycleLR", {"max_lr": 0.1})
    assert reasons["learning_rate"] == "OneCycleLR starts from max_lr"
    assert "OneCycleLR cycles the momentum" in reasons["optimizer_kwargs.momentum"]


def test_a_simulation_stops_where_it_is_told_to_and_leaves_the_optimizer_alone() -> None:
    built = optimizer()
    before = str(built.state_dict())
    found = schedules.rates("OneCycleLR", built, {}, SchedulerConfigs(interval="step"), 100, 100, at_most=7)
    assert len(found["learning_rate"]) == len(found["momentum"]) == 7
    assert str(built.state_dict()) == before


def test_a_simulation_starts_from_the_rates_before_any_scheduler() -> None:
    built = optimizer()
    fresh = schedules.rates("LinearLR", built, {}, SchedulerConfigs(), 4, 2)
    schedules.build("LinearLR", built, {}, SchedulerConfigs(), 4, 2)
    assert built.param_groups[0]["lr"] != 0.1
    assert schedules.rates("LinearLR", built, {}, SchedulerConfigs(), 4, 2) == fresh
