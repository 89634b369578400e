"""Every scheduler moves the rate of a run as torch's own does when it is stepped by hand, at every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from resuming import outcome, same_bits, trained_in_pieces
from torch import nn
from torch.optim import lr_scheduler as torchs

from tuner import schedules
from tuner.recipe import Recipe, SchedulerConfigs
from tuner.tasks import load_task
from tuner.training.plain import PlainRun
from tuner.training.run import Goal
from tuner.training.trainer import Trainer, train

EPOCHS, STEPS = 7, 4
"""Epochs, and steps in each of them."""

RATES = [0.05, 0.025]
"""Of the two parameter groups."""

LENGTHS = {("epoch", 1): 7, ("epoch", 3): 3, ("step", 1): 28, ("step", 3): 10}
"""How many rates the scheduler sets in the run, the first among them, by interval and frequency."""


@dataclass(frozen=True)
class Case:
    """Options as a recipe has them, and torch's own scheduler over an optimizer for `n` of its steps."""

    options: dict[str, Any]
    by_hand: Callable[[Any, int], Any]


def in_sequence(optimizer: torch.optim.Optimizer, n: int) -> Any:
    """A warm-up of two steps, then a cosine over all others."""
    parts = [torchs.LinearLR(optimizer, 0.1, total_iters=2), torchs.CosineAnnealingLR(optimizer, max(1, n - 2))]
    return torchs.SequentialLR(optimizer, parts, milestones=[2])


def three_in_sequence(optimizer: torch.optim.Optimizer, n: int) -> Any:
    parts = [
        torchs.ConstantLR(optimizer, 0.5, total_iters=1),
        torchs.PolynomialLR(optimizer, total_iters=3, power=2.0),
        torchs.MultiStepLR(optimizer, [1], gamma=0.5),
    ]
    return torchs.SequentialLR(optimizer, parts, milestones=[1, 4])


def chained(optimizer: torch.optim.Optimizer, n: int) -> Any:
    parts = [torchs.LinearLR(optimizer, 0.5, total_iters=n), torchs.ExponentialLR(optimizer, 0.9)]
    return torchs.ChainedScheduler(parts, optimizer=optimizer)


def shrinking(optimizer: torch.optim.Optimizer, n: int) -> Any:
    return torchs.MultiplicativeLR(optimizer, lambda epoch: 1 - 0.1 / (epoch + 1))


def in_words(*parts: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"schedulers": list(parts), **options}


CASES: dict[str, list[Case]] = {
    "LambdaLR": [
        Case({"lr_lambda": "0.95 ** epoch"}, lambda o, n: torchs.LambdaLR(o, lambda epoch: 0.95**epoch)),
        Case(
            {"lr_lambda": "0.1 + 0.9 * (1 + cos(pi * epoch / 20)) / 2"},
            lambda o, n: torchs.LambdaLR(o, lambda epoch: 0.1 + 0.9 * (1 + math.cos(math.pi * epoch / 20)) / 2),
        ),
        Case(
            {"lr_lambda": ["min(1, (epoch + 1) / 3)", "1 if epoch < 2 else 0.5"]},
            lambda o, n: torchs.LambdaLR(
                o, [lambda epoch: min(1, (epoch + 1) / 3), lambda epoch: 1 if epoch < 2 else 0.5]
            ),
        ),
    ],
    "MultiplicativeLR": [
        Case({"lr_lambda": 0.9}, lambda o, n: torchs.MultiplicativeLR(o, lambda _: 0.9)),
        Case({"lr_lambda": "1 - 0.1 / (epoch + 1)"}, shrinking),
    ],
    "StepLR": [Case({"step_size": 2, "gamma": 0.5}, lambda o, n: torchs.StepLR(o, 2, gamma=0.5))],
    "MultiStepLR": [
        Case({"milestones": [1, 5], "gamma": 0.5}, lambda o, n: torchs.MultiStepLR(o, [1, 5], gamma=0.5)),
        Case(
            {"milestones": "auto"},
            lambda o, n: torchs.MultiStepLR(o, {7: [3, 5], 3: [1, 2], 28: [14, 21], 10: [5, 7]}[n]),
        ),
    ],
    "ConstantLR": [
        Case({}, lambda o, n: torchs.ConstantLR(o)),
        Case({"factor": 0.25, "total_iters": "auto"}, lambda o, n: torchs.ConstantLR(o, 0.25, total_iters=n)),
    ],
    "LinearLR": [
        Case({}, lambda o, n: torchs.LinearLR(o)),
        Case({"end_factor": 0.1, "total_iters": "auto"}, lambda o, n: torchs.LinearLR(o, 1 / 3, 0.1, total_iters=n)),
    ],
    "ExponentialLR": [Case({"gamma": 0.9}, lambda o, n: torchs.ExponentialLR(o, 0.9))],
    "PolynomialLR": [
        Case({}, lambda o, n: torchs.PolynomialLR(o)),
        Case({"total_iters": "auto", "power": 0.9}, lambda o, n: torchs.PolynomialLR(o, n, power=0.9)),
    ],
    "CosineAnnealingLR": [
        Case({}, torchs.CosineAnnealingLR),
        Case({"T_max": "auto", "eta_min": 1e-3}, lambda o, n: torchs.CosineAnnealingLR(o, n, eta_min=1e-3)),
        Case({"T_max": 3}, lambda o, n: torchs.CosineAnnealingLR(o, 3)),
    ],
    "CosineAnnealingWarmRestarts": [
        Case({}, torchs.CosineAnnealingWarmRestarts),
        Case({"T_0": 2, "T_mult": 2}, lambda o, n: torchs.CosineAnnealingWarmRestarts(o, 2, T_mult=2)),
    ],
    "OneCycleLR": [
        Case({}, lambda o, n: torchs.OneCycleLR(o, RATES, total_steps=n)),
        Case(
            {"max_lr": 0.3, "total_steps": 40, "three_phase": True},
            lambda o, n: torchs.OneCycleLR(o, 0.3, total_steps=40, three_phase=True),
        ),
        Case(
            {"max_lr": "auto", "epochs": "auto", "steps_per_epoch": "auto", "base_momentum": 0.5},
            lambda o, n: torchs.OneCycleLR(o, RATES, epochs=EPOCHS, steps_per_epoch=STEPS, base_momentum=0.5),
        ),
        Case({"cycle_momentum": False}, lambda o, n: torchs.OneCycleLR(o, RATES, total_steps=n, cycle_momentum=False)),
    ],
    "CyclicLR": [
        Case({"max_lr": 0.5, "step_size_up": 2}, lambda o, n: torchs.CyclicLR(o, RATES, 0.5, step_size_up=2)),
        Case(
            {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": "auto", "mode": "exp_range", "gamma": 0.99},
            lambda o, n: torchs.CyclicLR(o, 0.01, 0.1, step_size_up=n // 2, mode="exp_range", gamma=0.99),
        ),
    ],
    "SequentialLR": [
        Case(
            in_words(
                {"scheduler": "LinearLR", "start_factor": 0.1, "total_iters": "auto"},
                {"scheduler": "CosineAnnealingLR"},
                milestones=[2],
            ),
            in_sequence,
        ),
        Case(
            in_words(
                {"scheduler": "ConstantLR", "factor": 0.5, "total_iters": "auto"},
                {"scheduler": "PolynomialLR", "total_iters": "auto", "power": 2.0},
                {"scheduler": "MultiStepLR", "milestones": [1], "gamma": 0.5},
                milestones=[1, 4],
            ),
            three_in_sequence,
        ),
    ],
    "ChainedScheduler": [
        Case(
            in_words(
                {"scheduler": "LinearLR", "start_factor": 0.5, "total_iters": "auto"},
                {"scheduler": "ExponentialLR", "gamma": 0.9},
            ),
            chained,
        )
    ],
    "ReduceLROnPlateau": [
        Case({}, lambda o, n: torchs.ReduceLROnPlateau(o)),
        Case(
            {"patience": 0, "threshold": 1.0, "threshold_mode": "abs", "factor": 0.5},
            lambda o, n: torchs.ReduceLROnPlateau(o, patience=0, threshold=1.0, threshold_mode="abs", factor=0.5),
        ),
    ],
    "LinearWarmupCosineAnnealingLR": [
        Case({"warmup_epochs": 2, "warmup_start_lr": 0.01, "eta_min": 0.001}, lambda o, n: WarmupByHand(o, 2, n)),
        Case({"warmup_epochs": 0, "warmup_start_lr": 0.01, "eta_min": 0.001}, lambda o, n: WarmupByHand(o, 0, n)),
    ],
}


class WarmupByHand:
    """The closed form of a linear warm-up from 0.01 over `warmup` steps and a cosine to 0.001 at `end`."""

    def __init__(self, optimizer: torch.optim.Optimizer, warmup: int, end: int) -> None:
        self.optimizer, self.warmup, self.end, self.count = optimizer, warmup, end, 0
        self._write()

    def step(self) -> None:
        self.count += 1
        self._write()

    def _write(self) -> None:
        for group, base in zip(self.optimizer.param_groups, RATES, strict=True):
            if self.count < self.warmup:
                group["lr"] = 0.01 + (base - 0.01) * self.count / self.warmup
            else:
                angle = math.pi * (self.count - self.warmup) / max(1, self.end - self.warmup)
                group["lr"] = 0.001 + (base - 0.001) / 2 * (1 + math.cos(angle))


EVERY_CASE = [(name, number) for name in CASES for number in range(len(CASES[name]))]
EVERY_INTERVAL = pytest.mark.parametrize(("interval", "frequency"), list(LENGTHS))
OPTIMIZERS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}


def momentum(group: dict[str, Any]) -> float:
    return float(group["betas"][0] if "betas" in group else group["momentum"])


Seen = list[list[tuple[float, float]]]
"""Rate and momentum: steps x groups."""


def started(name: str, options: dict[str, Any], interval: str, frequency: int, optimizer: str) -> PlainRun:
    """A run of four steps an epoch, the parameters in two groups."""
    recipe = Recipe(
        epochs=EPOCHS,
        batch_size=8,
        optimizer=optimizer,
        learning_rate=RATES[0],
        lr_multipliers={"4.": RATES[1] / RATES[0]},
        scheduler=name,
        scheduler_kwargs=options,
        scheduler_configs=SchedulerConfigs(interval=interval, frequency=frequency),
    ).with_defaults()
    task = load_task(str(Path(__file__).parents[1] / "files" / "tiny.py"))
    return Trainer(task, Goal("val_mse"), ("mse", "l1"), torch.device("cpu")).start(
        recipe.model_copy(update={"model": dict(task.model_options), "data": dict(task.data_options)})
    )


@cache
def trained(name: str, number: int, interval: str, frequency: int, optimizer: str = "SGD") -> tuple[PlainRun, Seen]:
    """A run of a case, trained to its end, and what its optimizer had at each step."""
    run, seen = started(name, CASES[name][number].options, interval, frequency, optimizer), []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        seen.append([(float(group["lr"]), momentum(group)) for group in optimizer.param_groups])

    run.optimizer.register_step_pre_hook(note)
    train(run)
    return run, seen


def by_hand(case: Case, interval: str, frequency: int, optimizer: str, losses: list[float]) -> Seen:
    """The same from torch's scheduler, stepped where the docs say; `losses` are what a plateau watches, by epoch."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in RATES]
    built = OPTIMIZERS[optimizer](groups, lr=RATES[0], **({"momentum": 0.9} if optimizer == "SGD" else {}))
    scheduler = case.by_hand(built, LENGTHS[interval, frequency])
    watches, total, seen = isinstance(scheduler, torchs.ReduceLROnPlateau), EPOCHS * STEPS, []
    for step in range(1, total + 1):
        seen.append([(float(group["lr"]), momentum(group)) for group in built.param_groups])
        built.step()
        epoch = (step - 1) // STEPS  # whole epochs with a record
        if interval == "step" and step % frequency == 0:
            if watches and epoch:
                scheduler.step(losses[epoch - 1])
            elif not watches and step < total:
                scheduler.step()
        if interval == "epoch" and step % (STEPS * frequency) == 0:
            if watches:
                scheduler.step(losses[step // STEPS - 1])
            elif step < total:
                scheduler.step()
    return seen


def flat(seen: Seen) -> list[float]:
    return [value for row in seen for group in row for value in group]


def test_every_scheduler_has_a_case() -> None:
    assert set(schedules.names()) == set(CASES)
    assert set(torchs.__all__) - {"LRScheduler"} <= set(CASES)


@EVERY_INTERVAL
@pytest.mark.parametrize(("name", "number"), EVERY_CASE)
def test_rate_and_momentum_at_every_step_are_torchs(name: str, number: int, interval: str, frequency: int) -> None:
    run, seen = trained(name, number, interval, frequency)
    losses = [record.values["val_loss"] for record in run.records]
    expected = by_hand(CASES[name][number], interval, frequency, "SGD", losses)
    assert len(seen) == EPOCHS * STEPS
    assert flat(seen) == pytest.approx(flat(expected), rel=1e-9, abs=1e-12)


@EVERY_INTERVAL
@pytest.mark.parametrize(("name", "number"), [case for case in EVERY_CASE if case[0] in ("OneCycleLR", "CyclicLR")])
def test_the_first_of_adams_betas_follows_the_cycle(name: str, number: int, interval: str, frequency: int) -> None:
    run, seen = trained(name, number, interval, frequency, "Adam")
    expected = by_hand(CASES[name][number], interval, frequency, "Adam", [])
    assert flat(seen) == pytest.approx(flat(expected), rel=1e-9, abs=1e-12)
    assert all(group["betas"][1] == 0.999 for group in run.optimizer.param_groups)


@EVERY_INTERVAL
@pytest.mark.parametrize(("name", "number"), EVERY_CASE)
def test_a_simulation_shows_what_the_run_does(name: str, number: int, interval: str, frequency: int) -> None:
    """A plateau's rate is not known before training, and stays."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in RATES]
    fresh, configs = torch.optim.SGD(groups, momentum=0.9), SchedulerConfigs(interval=interval, frequency=frequency)
    simulated = schedules.rates(name, fresh, CASES[name][number].options, configs, EPOCHS, STEPS)
    assert [group["lr"] for group in fresh.param_groups] == RATES
    if name == "ReduceLROnPlateau":
        assert simulated == {"learning_rate": [RATES] * (EPOCHS * STEPS)}
        return
    _, seen = trained(name, number, interval, frequency)
    assert simulated["learning_rate"] == [[group[0] for group in row] for row in seen]
    cycled = [[group[1] for group in row] for row in seen]
    assert simulated.get("momentum", [[0.9, 0.9]] * (EPOCHS * STEPS)) == cycled


@pytest.mark.parametrize(("interval", "frequency"), [("epoch", 1), ("step", 3)])
@pytest.mark.parametrize(("name", "number"), EVERY_CASE)
def test_a_run_ended_after_every_third_step_equals_one_that_was_not(
    name: str, number: int, interval: str, frequency: int, tmp_path: Path
) -> None:
    """Each piece goes on from a file; an epoch of four steps and a validation is cut at another place every time."""
    options = CASES[name][number].options
    whole, _ = trained(name, number, interval, frequency)
    pieces = trained_in_pieces(lambda: started(name, options, interval, frequency, "SGD"), tmp_path, every=3)
    assert same_bits(outcome(pieces), outcome(whole))
