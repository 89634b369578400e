"""Studies whose truth is known: what decides, what does nothing, and by how much; noise is 0.3 of the effect."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tuner.storage.reading import records_of
from tuner.storage.records import EPOCH_COLUMNS, Records

NOISE = 0.3
TRIALS = 60
EPOCHS = 15
Setting = dict[str, Any]
Truth = Callable[[Setting], float | None]
"""The effect of a setting on the value, higher is better, from 0 to 1; None where it diverges."""

Curve = Callable[[int], float]
"""What an epoch, from 1 on, has added to the value: 0 to 1."""

Asked = Any
"""An Optuna trial, or a `Draw`."""

Ask = Callable[[Asked], Setting]

Pruner = Callable[[list[list[float]], list[float]], bool]
"""Whether a trial is cut after the epochs that it has reported, given what those before it reported; higher is better.
"""

RATES = (1e-5, 1e-1)
GRID: dict[str, list[Any]] = {
    "learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
    "width": [8, 16, 32, 64],
    "optimizer": ["Adam", "SGD", "AdamW"],
}
CELLS = [dict(zip(GRID, cell, strict=True)) for cell in itertools.product(*GRID.values())]
"""All 60 of the grid."""


class Draw:
    """A trial that is suggested values at random, or those `given`: as Optuna's would be, a hundred times as fast."""

    def __init__(self, random: np.random.Generator, given: Setting) -> None:
        self.random, self.given = random, given
        self.values: Setting = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, log: bool = False) -> float:
        """Uniform, or uniform in the logarithm."""
        ends = (math.log(low), math.log(high)) if log else (low, high)
        drawn = self.random.uniform(*ends)
        return self._told(name, FloatDistribution(low, high, log=log), math.exp(drawn) if log else drawn)

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """Uniform, both ends included."""
        return self._told(name, IntDistribution(low, high), int(self.random.integers(low, high + 1)))

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        """One of the choices."""
        drawn = choices[self.random.integers(len(choices))]
        return self._told(name, CategoricalDistribution(choices), self.given.get(name, drawn))

    def _told(self, name: str, kind: BaseDistribution, value: Any) -> Any:
        self.values[name], self.distributions[name] = value, kind
        return value


def suggest(trial: Asked) -> Setting:
    """Five parameters of all kinds, as positions from 0 to 1 beside their values."""
    found: Setting = {
        "rate": trial.suggest_float("learning_rate", *RATES, log=True),
        "width": trial.suggest_int("width", 8, 64),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "optimizer": trial.suggest_categorical("optimizer", ["Adam", "SGD", "AdamW"]),
        "batch": trial.suggest_categorical("batch_size", [16, 32, 64, 128]),
    }
    low, high = map(math.log, RATES)
    return found | {"at": (math.log(found["rate"]) - low) / (high - low), "wide": (found["width"] - 8) / 56}


def suggest_ten(trial: Asked) -> Setting:
    """Twice as many parameters."""
    more: Setting = {
        "momentum": trial.suggest_float("momentum", 0.5, 0.99),
        "decay": trial.suggest_float("optimizer_kwargs.weight_decay", 1e-6, 1e-1, log=True),
        "layers": trial.suggest_int("layers", 1, 6),
        "loss": trial.suggest_categorical("loss", ["mse", "l1"]),
        "norm": trial.suggest_categorical("norm", [True, False]),
    }
    return suggest(trial) | more


def suggest_grid(trial: Asked) -> Setting:
    """Choices alone."""
    return {name: trial.suggest_categorical(name, choices) for name, choices in GRID.items()}


def nothing(setting: Setting) -> float:
    """No parameter matters."""
    return 0.0


def decides(setting: Setting) -> float:
    """The learning rate decides, best in the middle of its range."""
    return 1 - 4 * (float(setting["at"]) - 0.5) ** 2


def category(setting: Setting) -> float:
    """The optimizer decides."""
    return float(setting["optimizer"] != "SGD")


def edge(setting: Setting) -> float:
    """The best learning rate is the highest, and would be higher still."""
    return float(setting["at"])


def low_edge(setting: Setting) -> float:
    """The best width is the smallest."""
    return float(1 - setting["wide"])


def two_decide(setting: Setting) -> float:
    """The learning rate and, half as much, the optimizer."""
    return decides(setting) + category(setting) / 2


def together(setting: Setting) -> float:
    """A wide model needs a low rate and a narrow one a high rate: an interaction, without an effect of either alone."""
    return float((setting["at"] > 0.5) != (setting["wide"] > 0.5))


THRESHOLD = 1e-2


def diverging(setting: Setting) -> float | None:
    """Rates above a threshold diverge; below it they do not matter."""
    return None if setting["rate"] > THRESHOLD else 0.0


def diverging_category(setting: Setting) -> float | None:
    """All trials with SGD diverge; else nothing matters."""
    return None if setting["optimizer"] == "SGD" else 0.0


def diverging_at_random(setting: Setting) -> float | None:
    """A fifth of the trials diverges, whatever their setting: told by digits of it that mean nothing."""
    return None if (setting["dropout"] * 1e7) % 1 < 0.2 else 0.0


def everything(setting: Setting) -> float | None:
    """The rate decides, with a best value inside, and diverges above the threshold; small widths are best; dropout and
    the batch size go together; the optimizer does nothing."""
    if setting["rate"] > THRESHOLD:
        return None
    matched = (setting["dropout"] > 0.25) == (setting["batch"] > 32)
    return decides(setting) + low_edge(setting) + float(matched)


def converged(epoch: int) -> float:
    """A curve that has all of its gain by a third of the epochs."""
    return 1 - math.exp(-(epoch - 1) / 0.8)


def going_on(epoch: int) -> float:
    """A curve whose epochs all bring as much."""
    return (epoch - 1) / (EPOCHS - 1)


STARTUP = 10
"""Trials that a pruner lets end."""


def median(before: list[list[float]], reached: list[float]) -> bool:
    """Its best epoch is below the median at this one of those that trained all epochs."""
    at_this = [other[len(reached) - 1] for other in before if len(other) == EPOCHS]
    return bool(max(reached) < np.median(at_this))


def halving(before: list[list[float]], reached: list[float]) -> bool:
    """Its best epoch is not in the best third of those that came as far, at epochs 1, 3 and 9."""
    epoch = len(reached)
    rivals = sorted(max(other[:epoch]) for other in before if len(other) >= epoch)
    return epoch in (1, 3, 9) and max(reached) < rivals[-(len(rivals) // 3)]


def heavy_tailed(value: float) -> float:
    """Log-normal values, the largest of 60 a thousand times the median."""
    return math.exp(10 * value)


def rounded(value: float) -> float:
    """Accuracies to two digits, a fifth of a deviation wide at best."""
    return round(0.9 + 0.1 * value, 2)


def study_of(
    truth: Truth,
    seed: int,
    sampler: str = "random",
    trials: int = TRIALS,
    maximize: bool = True,
    ask: Ask = suggest,
    shape: Callable[[float], float] = float,
    curve: Curve | None = None,
    shake: float = 0.0,
    pruner: Pruner | None = None,
) -> Records:
    """A study of so many trials whose values are the truth with noise, seen through `shape`.

    With a `curve`, a trial reports `EPOCHS` epochs, which add up to a gain of 10 with noise of `shake` of it; its value
    is its best epoch's. A `pruner` may cut it after any of them.
    """
    random = np.random.default_rng(10_000 + seed)
    if sampler == "tpe":
        return _by_tpe(truth, seed, trials, maximize, ask, random)
    sign = 1.0 if maximize else -1.0
    order = random.permutation(len(CELLS))
    draws, values, reports = [], [], []
    curves: list[list[float]] = []
    pruned = set()
    for number in range(trials):
        draw = Draw(random, CELLS[order[number]] if sampler == "grid" else {})
        effect = truth((suggest_grid if sampler == "grid" else ask)(draw))
        value = math.nan if effect is None else effect + NOISE * random.normal()
        if curve is not None:
            reached = [value + 10 * (curve(epoch) + shake * random.normal()) for epoch in range(1, EPOCHS + 1)]
            if pruner is not None:
                cuts = (end for end in range(1, EPOCHS) if number >= STARTUP and pruner(curves, reached[:end]))
                reached = reached[: next(cuts, EPOCHS)]
                curves.append(reached)
                pruned |= {number} if len(reached) < EPOCHS else set()
            reports += [(number, epoch, sign * entry) for epoch, entry in enumerate(reached, 1)]
            value = max(reached)
        draws.append(draw)
        values.append(shape(sign * value) if effect is not None else math.nan)
    return _records(draws, values, reports, maximize, pruned)


def _records(
    draws: list[Draw],
    values: list[float],
    reports: list[tuple[int, int, float]],
    maximize: bool,
    pruned: Collection[int],
) -> Records:
    """A study of these trials; those without a value diverged."""
    cut = [math.isnan(value) or number in pruned for number, value in enumerate(values)]
    return dataclasses.replace(
        bare_records(["PRUNED" if was_cut else "COMPLETE" for was_cut in cut], values, reports, maximize),
        notes={"diverged": [True if math.isnan(value) else None for value in values]},
        parameters={name: [draw.values[name] for draw in draws] for name in draws[0].values},
        distributions=draws[0].distributions,
    )


def bare_records(
    states: list[str], values: list[float], reports: list[tuple[int, int, float]], maximize: bool
) -> Records:
    """A study without parameters; a report is a trial's number, a step, and the value there."""
    nothing_yet = pd.DatetimeIndex([pd.NaT] * len(states))
    return Records(
        name="truth",
        directions=("MAXIMIZE" if maximize else "MINIMIZE",),
        attributes={},
        states=states,
        values=np.array(values, dtype=float),
        started=nothing_yet,
        completed=nothing_yet,
        notes={},
        parameters={},
        distributions={},
        reports=pd.DataFrame(reports, columns=["trial", "step", "value"]).astype(
            {"trial": int, "step": int, "value": float}
        ),
        epochs=pd.DataFrame(columns=list(EPOCH_COLUMNS)),
    )


def _by_tpe(truth: Truth, seed: int, trials: int, maximize: bool, ask: Ask, random: np.random.Generator) -> Records:
    """The same by a sampler that learns: settings that chance made good are proposed again and again."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)
    for _ in range(trials):
        trial = study.ask()
        effect = truth(ask(trial))
        assert effect is not None, "a sampler that learns is asked about what does not diverge"
        study.tell(trial, (effect + NOISE * random.normal()) * (1 if maximize else -1))
    return records_of(study)
