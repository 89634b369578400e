"""TurnedRun: a run whose knobs are turned while it trains, by hand or by the record of an earlier session."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tuner.errors import UsageError
from tuner.recipe import Recipe
from tuner.training.plain import PlainRun
from tuner.training.run import EpochRecord
from tuner.training.settings import SETTINGS, apply_setting, check_setting, starting_options
from tuner.training.states import all_finite
from tuner.training.trainer import Trainer
from tuner.turns import TurnedKnobs, Turns

RESET, SAVE, STOP = "reset", "save", "stop"
"""Actions of a session: begin anew, write a checkpoint, end."""

RESTORE = re.compile(r"restore=([0-9]+)")
"""The action that goes back to how all was before a step."""

WORDS = (RESET, SAVE, STOP)


@dataclass(frozen=True)
class Snapshot:
    """How a run stood before a step of the session, on the CPU, sharing no memory with it.

    `settings` and `values` are what was turned until then.
    """

    step: int
    settings: dict[str, str]
    values: dict[str, float]
    state: dict[str, Any]


class TurnedRun:
    """A session: a run of `recipe` to which `turns` happen, each before the step at which it stands.

    Steps of the session only ever go forward, while the run begins anew at a reset, and goes back to an earlier state
    where one is restored. `on_save` is called where a checkpoint is to be written. What is trained depends on recipe
    and turns alone, so that the record of a session trains to the same weights.
    """

    def __init__(
        self,
        trainer: Trainer,
        recipe: Recipe,
        turns: Turns,
        between_steps: Callable[[], None] = lambda: None,
        on_save: Callable[[], None] = lambda: None,
    ) -> None:
        self.trainer, self.recipe, self.turns = trainer, recipe, turns
        self.steps_done, self.stopped = 0, False
        self.last: dict[str, Tensor] = {}
        self.settings: dict[str, str] = {}
        self.snapshots: dict[int, Snapshot] = {}
        self._between_steps, self._on_save = between_steps, on_save
        self.wanted = {int(match[1]) for _, action in turns.actions if (match := RESTORE.fullmatch(action))}
        self._settled, self._fired, self._entry = -1, 0, dict[str, str]()
        self._whole = True
        self.run = self._begin(0)

    def _begin(self, start: int) -> PlainRun:
        """A fresh run whose first step is the session's `start`, with the settings as they are turned."""
        run = self.trainer.start(self.recipe, self._between_steps)
        run.knobs = TurnedKnobs.over(run.knobs, self.turns, start)
        run.loss = self.recipe.loss
        for name in SETTINGS:
            if name in self.settings:
                apply_setting(run, name, self.settings[name])
        return run

    def settle(self) -> None:
        """Let what was turned at the next step take effect, actions first, in their order.

        If it is called again for the same step, what was turned since must follow a reset or a restoring, so that all
        can be done once more. Raises `UsageError` for a setting that the run cannot take; `withdraw` forgets it.
        """
        if self._settled != self.steps_done:
            self._settled, self._fired, self._entry = self.steps_done, 0, dict(self.settings)
            if self.steps_done in self.wanted:
                self.take_snapshot()
        due = self.turns.actions_at(self.steps_done)
        fired = due[: self._fired]
        if self._whole and len(fired) < len(due) and any(name == RESET or RESTORE.fullmatch(name) for name in fired):
            self._fired, self.settings = 0, dict(self._entry)
        self._whole = False
        while self._fired < len(due):
            self._fired += 1
            self._fire(due[self._fired - 1])
        self._whole = True
        self.run.set_values()

    def _fire(self, action: str) -> None:
        name, equals, value = action.partition("=")
        restored = RESTORE.fullmatch(action)
        if action == RESET:
            self.run = self._begin(self.steps_done)
        elif action == SAVE:
            self._on_save()
        elif action == STOP:
            self.stopped = True
        elif restored:
            self._restore(int(restored[1]))
        elif equals:
            apply_setting(self.run, name, value)
            self.settings[name] = value
        else:
            self.run.act(action)

    def withdraw(self) -> str:
        """Forget the action that `settle` could not take, and give it; `settle` may then be called again."""
        at = [place for place, (step, _) in enumerate(self.turns.actions) if step == self.steps_done]
        self._fired -= 1
        return self.turns.actions.pop(at[self._fired])[1]

    def check(self, name: str, value: str) -> None:
        """Raise `UsageError` for a setting that the run cannot take; changes nothing."""
        check_setting(self.run, name, value)

    def options_of(self, optimizer: str) -> dict[str, float]:
        """The options, by recipe path, that an optimizer of torch has when it is switched to."""
        return starting_options(self.recipe, optimizer)

    def moving(self) -> dict[str, float]:
        """What the recipe's own timeline moves, as far as nobody has turned it, at the next step."""
        knobs = self.run.knobs
        assert isinstance(knobs, TurnedKnobs)
        return knobs.moving(self.run.steps_done)

    def step(self) -> list[EpochRecord]:
        """Train on the next batch, and validate where that ends an epoch; gives the epoch's record then.

        `last` is then what the step's loss and its terms were (scalars). Raises whatever `between_steps` raises.
        """
        records = self._end_of_epoch()  # of an epoch whose validation failed
        self.settle()
        self.run.step()
        self.last = self.run.series.last()
        self.steps_done += 1
        return records + self._end_of_epoch()

    def _end_of_epoch(self) -> list[EpochRecord]:
        return self.run.epoch() if self.run.epoch_is_trained else []

    def take_snapshot(self) -> Snapshot:
        """Keep how all stands now, before anything of the next step is turned, to be restored later."""
        values = self.turns.at(self.steps_done - 1)
        found = Snapshot(self.steps_done, dict(self.settings), values, self.run.state_dict())
        self.snapshots[found.step] = found
        return found

    def is_sound(self, step: int) -> bool:
        """Whether the snapshot of a step holds finite weights only."""
        return all_finite(self.snapshots[step].state["model"])

    def _restore(self, step: int) -> None:
        if step not in self.snapshots:
            raise UsageError("there is no checkpoint of this step", place="restore", value=step)
        found = self.snapshots[step]
        self.settings = dict(found.settings)
        run = self._begin(0)
        run.load_state_dict(found.state)
        run.knobs = TurnedKnobs.over(run.knobs, self.turns, self.steps_done - run.steps_done)
        self.run = run
