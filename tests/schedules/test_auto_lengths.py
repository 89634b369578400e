"""Lengths left out or auto: those of the run, or of the stretch between two milestones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner import schedules
from tuner.recipe import SchedulerConfigs


def build(name: str, options: dict[str, Any], configs: SchedulerConfigs, epochs: int, steps: int) -> Any:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.03)]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    return schedules.build(name, optimizer, options, configs, epochs, steps)


@given(
    epochs=st.integers(1, 40),
    steps=st.integers(1, 30),
    frequency=st.integers(1, 50),
    by_step=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_a_length_is_the_run_in_the_schedulers_own_steps(
    epochs: int, steps: int, frequency: int, by_step: bool
) -> None:
    """Counted out: how many rates the run trains at, the last of them perhaps for less than `frequency`."""
    configs = SchedulerConfigs(interval="step" if by_step else "epoch", frequency=frequency)
    units = range(1, (epochs * steps if by_step else epochs) + 1)
    length = len({(unit - 1) // frequency for unit in units})

    def of(name: str, **options: Any) -> Any:
        return build(name, options, configs, epochs, steps)

    assert of("CosineAnnealingLR").T_max == of("CosineAnnealingLR", T_max="auto").T_max == length
    assert length == of("CosineAnnealingWarmRestarts").T_0
    assert of("OneCycleLR", pct_start=0.3).total_steps == length
    assert of("LinearWarmupCosineAnnealingLR", warmup_epochs=0).max_epochs == length
    for name in ("PolynomialLR", "LinearLR", "ConstantLR"):
        assert of(name, total_iters="auto").total_iters == length
        assert of(name).total_iters == 5  # torch's default
    assert of("CyclicLR", max_lr=1.0, step_size_up="auto").total_size == 2 * max(1, length // 2)
    assert of("CyclicLR", max_lr=1.0).total_size == 4000  # torch's default: 2000 up, 2000 down


def test_a_part_of_a_sequence_has_its_stretch() -> None:
    parts = [
        {"scheduler": "LinearLR", "total_iters": "auto"},
        {"scheduler": "PolynomialLR", "total_iters": "auto"},
        {"scheduler": "CosineAnnealingLR"},
    ]
    options = {"schedulers": parts, "milestones": [4, 10]}
    built = build("SequentialLR", options, SchedulerConfigs(), 25, 3)._schedulers
    assert (built[0].total_iters, built[1].total_iters, built[2].T_max) == (4, 6, 15)
    by_step = build("SequentialLR", options, SchedulerConfigs(interval="step"), 25, 3)._schedulers
    assert (by_step[0].total_iters, by_step[1].total_iters, by_step[2].T_max) == (4, 6, 65)
    chained = build("ChainedScheduler", {"schedulers": parts}, SchedulerConfigs(), 25, 3)._schedulers
    assert (chained[0].total_iters, chained[1].total_iters, chained[2].T_max) == (25, 25, 25)


def test_a_warm_up_before_a_cosine_meets_it_at_the_recipes_rate() -> None:
    parts = [{"scheduler": "LinearLR", "start_factor": 0.1, "total_iters": "auto"}, {"scheduler": "CosineAnnealingLR"}]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    options = {"schedulers": parts, "milestones": [5]}
    found = schedules.rates("SequentialLR", optimizer, options, SchedulerConfigs(), 20, 1)["learning_rate"]
    assert [rate for (rate,) in found[:6]] == pytest.approx([0.1, 0.28, 0.46, 0.64, 0.82, 1.0])
    assert found[-1][0] == pytest.approx((1 - torch.cos(torch.tensor(torch.pi / 15)).item()) / 2, rel=1e-4)


def test_rates_left_out_are_each_groups() -> None:
    def first_rates(name: str, **options: Any) -> list[float]:
        return build(name, options, SchedulerConfigs(), 20, 3).get_last_lr()

    assert first_rates("OneCycleLR", div_factor=10.0) == pytest.approx([0.01, 0.003])
    assert first_rates("OneCycleLR", div_factor=10.0, max_lr="auto") == pytest.approx([0.01, 0.003])
    assert first_rates("OneCycleLR", div_factor=10.0, max_lr=0.5) == pytest.approx([0.05, 0.05])
    assert first_rates("CyclicLR", max_lr=0.5) == first_rates("CyclicLR", max_lr=0.5, base_lr="auto") == [0.1, 0.03]
    within = [{"scheduler": "LinearLR", "total_iters": 2}, {"scheduler": "OneCycleLR"}]
    built = build("SequentialLR", {"schedulers": within, "milestones": [2]}, SchedulerConfigs(), 20, 3)
    assert [group["max_lr"] for group in built.optimizer.param_groups] == [0.1, 0.03]


def test_epochs_and_steps_of_one_cycle_are_the_runs_where_they_are_auto() -> None:
    options: dict[str, Any] = {"epochs": "auto", "steps_per_epoch": "auto"}
    assert build("OneCycleLR", options, SchedulerConfigs(interval="step"), 6, 7).total_steps == 42
    assert build("OneCycleLR", {"epochs": 50, "steps_per_epoch": 2}, SchedulerConfigs(), 6, 7).total_steps == 100
    assert build("OneCycleLR", {**options, "total_steps": 99}, SchedulerConfigs(), 6, 7).total_steps == 99


def test_no_name_is_a_constant_rate() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    assert schedules.build(None, optimizer, {}, SchedulerConfigs(), 3, 3) is None
    assert schedules.rates(None, optimizer, {}, SchedulerConfigs(), 2, 2) == {"learning_rate": [[0.1]] * 4}
