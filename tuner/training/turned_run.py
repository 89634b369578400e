"""TurnedRun: a run whose knobs are turned while it trains, by hand or by the record of an earlier session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuner.optimizers.options import options_in, put_options
from tuner.recipe import Recipe
from tuner.schedules.stepper import Stepper
from tuner.training.plain import PlainRun
from tuner.training.run import EpochRecord
from tuner.training.settings import SETTINGS, apply_setting, starting_options
from tuner.training.trainer import Trainer
from tuner.training.turned import Turned
from tuner.turns import NO_PHASE, TurnedKnobs, Turns

_PLAIN = ("recipe", "steps_per_epoch", "base_rate", "loss", "clip")
"""What of a run is turned by replacing it."""


@dataclass(frozen=True)
class _Standing:
    """A run as it is between two steps, the weights aside, unless `state` has them."""

    run: PlainRun
    optimizer: torch.optim.Optimizer
    groups: list[dict[str, Any]]
    stepper: Stepper | None
    stepper_state: dict[str, Any] | None
    plain: dict[str, Any]
    weights: dict[str, float]
    state: dict[str, Any] | None


class TurnedRun(Turned):
    """A session: a run of `recipe` to which `turns` happen.

    The run begins anew at a reset, and goes back to an earlier state where one is restored. `on_save` is called where
    a checkpoint is to be written.
    """

    def __init__(
        self,
        trainer: Trainer,
        recipe: Recipe,
        turns: Turns,
        between_steps: Callable[[], None] = lambda: None,
        on_save: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(turns, turns.restored_steps())
        self.trainer, self.recipe = trainer, recipe
        self.last: dict[str, Tensor] = {}
        self._between_steps, self._on_save = between_steps, on_save
        self.run = self._fresh(0)

    def _fresh(self, start: int) -> PlainRun:
        """A fresh run whose first step is the session's `start`, with the settings as they are turned."""
        run = self.trainer.start(self.recipe, self._between_steps)
        run.knobs = TurnedKnobs.over(run.knobs, self.turns, start)
        run.loss = self.recipe.loss
        if "scheduler" in self.settings:
            run.stepper = None  # the recipe's own, which might not suit an optimizer that was turned to
        for name in SETTINGS:
            if name in self.settings:
                apply_setting(run, name, self.settings[name])
        return run

    def step(self) -> list[EpochRecord]:
        """Train on the next batch, and validate where that ends an epoch; gives the epoch's record then.

        `last` is then what the step's loss and its terms were (scalars). Raises whatever `between_steps` raises.
        """
        records = self._end_of_epoch()  # of an epoch whose validation failed
        self.settle()
        run, before = self.run, self.run.steps_done
        try:
            run.step()
        finally:
            if run.steps_done > before:  # though something behind the optimizer's step may have failed
                self.last = run.series.last()
                self.steps_done += 1
        return records + self._end_of_epoch()

    def _end_of_epoch(self) -> list[EpochRecord]:
        return self.run.epoch() if self.run.epoch_is_trained else []

    def options_of(self, optimizer: str) -> Mapping[str, float]:
        """The options, by recipe path, that an optimizer of torch has when it is switched to."""
        return starting_options(self.recipe, optimizer)

    def moving(self) -> dict[str, float]:
        """What the recipe's own timeline moves, as far as nobody has turned it, at the next step."""
        return self._knobs.moving(self.run.steps_done)

    def now(self) -> str:
        """The rate that a scheduler has come to."""
        return "" if self.run.stepper is None else f"learning rate now {self.run.learning_rate:.3g}"

    def phase(self) -> str:
        """The phase at the next step, be it turned or the timeline's."""
        return self._knobs.phase(self.run.steps_done) or NO_PHASE

    def timeline_left(self) -> dict[str, Any] | None:
        """The recipe's timeline without what was turned, written out; None where there is nothing of it."""
        return self._knobs.left()

    @property
    def _knobs(self) -> TurnedKnobs:
        assert isinstance(self.run.knobs, TurnedKnobs)
        return self.run.knobs

    def _keep(self, whole: bool) -> _Standing:
        run, stepper = self.run, self.run.stepper
        return _Standing(
            run,
            run.optimizer,
            [options_in(group) for group in run.optimizer.param_groups],
            stepper,
            None if stepper is None else stepper.state_dict(),
            {name: getattr(run, name) for name in _PLAIN},
            dict(run.weights),
            run.state_dict() if whole else None,
        )

    def _put_back(self, kept: _Standing) -> None:
        self.run = run = kept.run
        run.optimizer, run.stepper, run.weights = kept.optimizer, kept.stepper, dict(kept.weights)
        for group, numbers in zip(run.optimizer.param_groups, kept.groups, strict=True):
            put_options(group, numbers)
        if kept.stepper is not None:
            kept.stepper.load_state_dict(kept.stepper_state or {})
        for name, value in kept.plain.items():
            setattr(run, name, value)
        run.renew_batches()
        if kept.state is not None:
            run.load_state_dict(kept.state)

    def _begin_anew(self) -> None:
        self.run = self._fresh(self.steps_done)

    def _set(self, name: str, value: str) -> None:
        apply_setting(self.run, name, value)

    def _act(self, action: str) -> None:
        self.run.act(action)

    def _save(self) -> None:
        self._on_save()

    def _write_values(self) -> None:
        self.run.set_values()

    def _state(self) -> dict[str, Any]:
        return self.run.state_dict()

    def _load(self, state: Mapping[str, Any]) -> None:
        run = self._fresh(0)
        run.load_state_dict(state)
        run.knobs = TurnedKnobs.over(run.knobs, self.turns, self.steps_done - run.steps_done)
        self.run = run
