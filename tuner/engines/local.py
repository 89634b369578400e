"""Local: runs in this process, those of one shape as one batched model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuner.recipe import Recipe
from tuner.search_space.space import SearchSpace
from tuner.signals import Interrupts
from tuner.training.fused.member import Member
from tuner.training.fused.training import Ended, FusedTraining, shape_key
from tuner.training.plain import PlainRun
from tuner.training.trainer import Trainer

FUSED = "fused"
"""How a trial trains that has a group; one that has none trains `alone`, and the reason is said."""


class Local:
    """Trains the trials of a search on this machine.

    `how` and `start` decide by the space and the recipe alone, so that a resumed search decides alike.
    """

    def __init__(self, trainer: Trainer, space: SearchSpace, interrupts: Interrupts) -> None:
        self.trainer, self.space, self.interrupts = trainer, space, interrupts
        self.fused = FusedTraining(trainer, space.fuse if isinstance(space.fuse, int) else None)

    def how(self, recipe: Recipe) -> str:
        """`fused`, or `alone` with the reason: to be recorded with the trial before it starts."""
        if self.space.fuse == "off":
            return "alone: fuse is off"
        if self.space.parallel < 2:
            return "alone: one trial at a time"
        with self.interrupts.at_once():
            reason = self.fused.why_not(recipe)
        return f"alone: {reason}" if reason else FUSED

    def shape_of(self, recipe: Recipe) -> str:
        """Equal for recipes that can train fused with one another."""
        return shape_key(recipe, self.trainer.task)

    def start(self, recipe: Recipe, how: str, between_steps: Callable[[], None]) -> PlainRun | Member:
        """A run of `recipe` before its first step; `between_steps` is called while it trains, and may raise."""
        with self.interrupts.at_once():
            if how == FUSED:
                return self.fused.start(recipe, between_steps)
            return self.trainer.start(recipe, between_steps)

    def epoch(self, members: Sequence[Member], between_steps: Callable[[], None]) -> list[Ended]:
        """Train the next epoch of each member; what `between_steps` raises ends it."""
        return self.fused.epoch(members, between_steps)
