"""When a scheduler steps, and that it goes on from plain values as if never stopped."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tuner import schedules
from tuner.recipe import SchedulerConfigs
from tuner.schedules.stepper import Stepper

EPOCHS, STEPS = 6, 5

OPTIONS: dict[str, dict[str, Any]] = {
    "LambdaLR": {"lr_lambda": "0.9 ** epoch"},
    "MultiplicativeLR": {"lr_lambda": "0.9"},
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [2, 4]},
    "ConstantLR": {"total_iters": 3},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {"total_iters": "auto"},
    "CosineAnnealingLR": {},
    "CosineAnnealingWarmRestarts": {"T_0": 2, "T_mult": 2},
    "OneCycleLR": {},
    "CyclicLR": {"max_lr": 0.5, "step_size_up": 2, "mode": "exp_range", "gamma": 0.99},
    "ReduceLROnPlateau": {"patience": 0},
    "LinearWarmupCosineAnnealingLR": {"warmup_epochs": 2},
    "SequentialLR": {
        "schedulers": [{"scheduler": "LinearLR", "total_iters": 2}, {"scheduler": "MultiStepLR", "milestones": [1, 2]}],
        "milestones": [2],
    },
    "ChainedScheduler": {
        "schedulers": [
            {"scheduler": "ConstantLR", "total_iters": 3},
            {"scheduler": "LambdaLR", "lr_lambda": "0.9 ** epoch"},
        ]
    },
}


def made(name: str, configs: SchedulerConfigs) -> tuple[torch.optim.Optimizer, Stepper]:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.03)]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    scheduler = schedules.build(name, optimizer, OPTIONS[name], configs, EPOCHS, STEPS)
    return optimizer, Stepper(name, scheduler, configs, EPOCHS, STEPS)


def driven(optimizer: torch.optim.Optimizer, stepper: Stepper, steps: range) -> list[list[float]]:
    """Rates and momenta at each step, the epoch's value being 1, 1/2, 1/2, 1/4, 1/4, ..."""
    seen = []
    values: dict[str, float] = {}
    for step in steps:
        seen.append([group[key] for group in optimizer.param_groups for key in ("lr", "momentum")])
        optimizer.step()
        done = (step - 1) // STEPS
        values = {"val_loss": 0.5 ** ((done + 1) // 2)} if done else {}
        stepper.after_step(step, values)
        if step % STEPS == 0:
            stepper.after_epoch(done + 1, {"val_loss": 0.5 ** ((done + 2) // 2)})
    return seen


def leaves(value: Any) -> list[Any]:
    if type(value) is dict:
        return [leaf for entry in value.values() for leaf in leaves(entry)] + list(value)
    return [leaf for entry in value for leaf in leaves(entry)] if type(value) is list else [value]


def test_every_scheduler_is_here() -> None:
    assert set(OPTIONS) == set(schedules.names())


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("cut", [1, 7, 10, 15, 23])
@pytest.mark.parametrize("name", list(OPTIONS))
def test_cut_in_two_it_goes_on_as_if_never_stopped(name: str, cut: int, interval: str) -> None:
    configs = SchedulerConfigs(interval=interval)
    whole = driven(*made(name, configs), range(1, EPOCHS * STEPS + 1))
    optimizer, stepper = made(name, configs)
    before = driven(optimizer, stepper, range(1, cut + 1))
    state, kept = stepper.state_dict(), copy.deepcopy(stepper.state_dict())
    again, other = made(name, configs)
    again.load_state_dict(optimizer.state_dict())
    other.load_state_dict(state)
    after = driven(again, other, range(cut + 1, EPOCHS * STEPS + 1))
    assert before + after == whole
    assert state == kept  # loading, and going on, leave a saved state as it was
    assert {type(leaf) for leaf in leaves(state)} <= {int, float, bool, str, type(None)}


def counted(interval: str, frequency: int, name: str = "ExponentialLR") -> list[int]:
    """After which optimizer steps the rate changes."""
    configs = SchedulerConfigs(interval=interval, frequency=frequency)
    seen = driven(*made(name, configs), range(1, EPOCHS * STEPS + 1))
    return [step for step in range(1, len(seen)) if seen[step] != seen[step - 1]]


def test_it_steps_where_interval_and_frequency_say_and_not_behind_the_last_step() -> None:
    assert counted("epoch", 1) == [5, 10, 15, 20, 25]
    assert counted("epoch", 2) == [10, 20]
    assert counted("epoch", 6) == []
    assert counted("step", 1) == list(range(1, 30))
    assert counted("step", 7) == [7, 14, 21, 28]


def test_a_plateau_sees_the_record_of_the_last_whole_epoch() -> None:
    """Values 1/2, 1/2, 1/4, 1/4, ...: every other epoch brings nothing better; each step of an epoch sees the same."""
    values = [0.5 ** ((epoch + 1) // 2) for epoch in range(1, EPOCHS + 1)]
    assert values[:4] == [0.5, 0.5, 0.25, 0.25]
    assert counted("epoch", 1, "ReduceLROnPlateau") == [10, 20]
    assert counted("step", 5, "ReduceLROnPlateau") == [15, 25]


def test_a_plateau_waits_where_its_metric_is_not_recorded() -> None:
    optimizer, stepper = made("ReduceLROnPlateau", SchedulerConfigs(monitor="val_mae"))
    for epoch in range(1, EPOCHS + 1):
        stepper.after_epoch(epoch, {"val_loss": 1.0})
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.03]


def test_without_a_scheduler_nothing_happens() -> None:
    stepper = Stepper(None, None, SchedulerConfigs(), EPOCHS, STEPS)
    stepper.after_step(1, None)
    stepper.after_epoch(1, {})
    assert stepper.state_dict() == {}
    stepper.load_state_dict({})
