"""Plans: a trial's hyperparameters at every step of an epoch, known before its first step.

torch's own scheduler steps over a stand-in for the optimizer, and timelines are read, an epoch ahead: only a plateau
scheduler looks at results, and those of whole epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tuner.knobs import knobs_of, properties_at
from tuner.optimizers.options import set_learning_rate, set_option
from tuner.recipe import Recipe, loss_weights
from tuner.schedules.overwriting import cycles_momentum
from tuner.schedules.simulate import stand_in
from tuner.training.run import Goal
from tuner.training.scheduling import end_epoch, stepper_over


@dataclass(frozen=True)
class Plan:
    """The hyperparameters of one trial's epoch of S steps, all float64.

    `rates` is S x parameter groups; `options` the optimizer's numbers by name, S each, betas as `beta1` and `beta2`;
    `weights` S x loss terms; `clips` the bounds on the gradient's norm, infinite for none. `actions` are the
    timeline's, by step; `properties` the task's, one for the epoch or one a step.
    """

    rates: np.ndarray
    options: Mapping[str, np.ndarray]
    weights: np.ndarray
    clips: np.ndarray
    actions: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    properties: tuple[Mapping[str, Any], ...] = ()

    def properties_at(self, step: int) -> Mapping[str, Any]:
        """The task's properties at a step of the epoch."""
        return self.properties[step if len(self.properties) > 1 else 0]


class Planner:
    """Plans a recipe's epochs, one after the other, for an optimizer whose steps it leaves alone."""

    def __init__(
        self,
        recipe: Recipe,
        optimizer: torch.optim.Optimizer,
        goal: Goal,
        terms: tuple[str, ...],
        properties: tuple[str, ...],
        steps_per_epoch: int,
    ) -> None:
        self.recipe, self.steps = recipe, steps_per_epoch
        self.still = stand_in(optimizer)
        self.stepper = stepper_over(self.still, recipe, goal, terms, steps_per_epoch)
        self.still.step()  # torch warns of schedulers that step before their optimizer
        self.knobs = knobs_of(recipe, recipe.epochs * steps_per_epoch, terms, properties)
        self.weights = loss_weights(recipe, terms)
        self.before = self._state()

    def epoch(self, number: int, values: Mapping[str, float] | None) -> Plan:
        """The plan of epoch `number`, which counts from 0; `values` is the last epoch's record."""
        self.before = self._state()
        first = number * self.steps
        steady = self.knobs.timeline is None and (self.stepper is None or self.stepper.configs.interval == "epoch")
        rows = []
        for step in range(first, first + (1 if steady else self.steps)):
            rows.append(self._row(step))
            if self.stepper is not None:
                self.stepper.after_step(step + 1, values)
        times = self.steps if steady else 1
        options = {name: np.array([row[1][name] for row in rows] * times) for name in rows[0][1]}
        return Plan(
            rates=np.array([row[0] for row in rows] * times),
            options=options,
            weights=np.array([row[2] for row in rows] * times),
            clips=np.array([row[3] for row in rows] * times),
            actions={step: found for step in range(self.steps) if (found := self.knobs.actions(first + step))},
            properties=tuple(row[4] for row in rows),
        )

    def _row(self, step: int) -> tuple[list[float], dict[str, float], list[float], float, Mapping[str, Any]]:
        """Rates, options, weights, clip and properties at a step of the run."""
        values = self.knobs.at(step)
        weights, clip = dict(self.weights), self.recipe.gradient_clip
        for path, value in values.items():
            section, _, name = path.partition(".")
            if path == "learning_rate":
                set_learning_rate(self.still, value)
            elif section == "optimizer_kwargs":
                set_option(self.still, name, value)
            elif section == "loss_weights":
                weights[name] = value
            elif path == "gradient_clip":
                clip = value
        groups = self.still.param_groups
        return (
            [float(group["lr"]) for group in groups],
            numbers_in(groups[0]),
            list(weights.values()),
            math.inf if clip is None else clip,
            properties_at(self.knobs, values, self.recipe.data, step),
        )

    def end_epoch(self, number: int, values: Mapping[str, float]) -> tuple[str, ...]:
        """Let the scheduler see the values of epoch `number`, from 1; gives a note where it lowered the rate."""
        notes = end_epoch(self.recipe, self.still, self.stepper, number, values)
        self.before = self._state()
        return notes

    def _state(self) -> dict[str, Any]:
        groups = [{key: value for key, value in group.items() if key != "params"} for group in self.still.param_groups]
        return {"groups": groups, "stepper": None if self.stepper is None else self.stepper.state_dict()}

    def state_dict(self) -> dict[str, Any]:
        """Where it stood at the beginning of the epoch last planned, or behind the last that has ended."""
        return self.before

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()` of the same recipe."""
        for group, saved in zip(self.still.param_groups, state["groups"], strict=True):
            group.update(saved)
        if self.stepper is not None:
            self.stepper.load_state_dict(state["stepper"])
        self.before = self._state()

    @property
    def moved(self) -> list[str]:
        """The optimizer's options that move over the run: along a timeline, or with a scheduler's cycles."""
        paths = self.knobs.paths.values()
        found = [path.partition(".")[2] for path in paths if path.startswith("optimizer_kwargs.")]
        cycled = cycles_momentum(self.recipe.scheduler, self.recipe.scheduler_kwargs)
        return [*found, "momentum"] if cycled else found


def numbers_in(group: Mapping[str, Any]) -> dict[str, float]:
    """The numeric options of a parameter group by name, `betas` as `beta1`, `beta2`; the rate is none of them."""
    found: dict[str, float] = {}
    for name, value in group.items():
        if name == "betas":
            found |= {f"beta{i}": float(beta) for i, beta in enumerate(value, start=1)}
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and name not in _NO_OPTIONS:
            found[name] = float(value)
    return found


_NO_OPTIONS = ("lr", "lr_multiplier", "initial_lr")
