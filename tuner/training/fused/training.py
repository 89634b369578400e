"""FusedTraining: one epoch of all members at once, cut into parts that train side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import torch

from tuner.optimizers.by_torch import why_not
from tuner.recipe import Recipe
from tuner.tasks.base import Task
from tuner.training.fused.examining import NotFusableError, examined
from tuner.training.fused.member import Member
from tuner.training.fused.part import Part
from tuner.training.fused.program import Program
from tuner.training.fused.sizes import Sizes
from tuner.training.randomness import undisturbed
from tuner.training.run import EpochRecord
from tuner.training.trainer import Trainer, free_memory, is_out_of_memory

POLL_SECONDS = 0.05
"""How often it is looked whether to stop while parts train."""

Ended = list[EpochRecord] | BaseException
"""What came of a member's epoch: its record, or why it failed."""


def shape_key(recipe: Recipe, task: Task) -> str:
    """Equal for recipes that can train in one group: what changes a model's shapes or code is equal in them.

    The task's properties are not: batches are made by them, trial by trial.
    """
    data = {name: value for name, value in recipe.data.items() if name not in task.properties}
    same = [recipe.model, data, recipe.batch_size, recipe.precision, why_not(recipe.optimizer)]
    return json.dumps(same, sort_keys=True, default=str)


class FusedTraining:
    """Trains members: on the CPU as many parts at once as torch has threads, each of its own on one.

    That the operations run on one thread each makes a member's bits independent of how many there are.
    """

    def __init__(self, trainer: Trainer, most: int | None = None) -> None:
        self.trainer, self.device = trainer, trainer.device
        self.threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        self.sizes = Sizes(self.threads, self.device, most)
        self._programs: dict[str, Program | str] = {}
        self._check_stop: Callable[[], None] = lambda: None

    def why_not(self, recipe: Recipe) -> str:
        """Why trials of this recipe's shape cannot train fused; "" if they can. Tries it, the first time."""
        program = self._program(recipe)
        return program if isinstance(program, str) else ""

    def start(self, recipe: Recipe) -> Member:
        """A member before its first step; `NotFusableError` for a recipe that cannot train fused."""
        program = self._program(recipe)
        if isinstance(program, str):
            raise NotFusableError(program)
        return Member(program, recipe, self.trainer.goal, self._alone)

    def _program(self, recipe: Recipe) -> Program | str:
        key = shape_key(recipe, self.trainer.task)
        if key not in self._programs:
            trainer = self.trainer
            try:
                data = trainer.data(recipe)
                self._programs[key] = examined(trainer.task, data, recipe, trainer.goal, trainer.terms, trainer.device)
            except NotFusableError as error:
                self._programs[key] = str(error)
        return self._programs[key]

    def _alone(self, member: Member) -> list[EpochRecord]:
        (ended,) = self.epoch([member], self._check_stop)
        if isinstance(ended, BaseException):
            raise ended
        return ended

    def epoch(self, members: Sequence[Member], check_stop: Callable[[], None] = lambda: None) -> list[Ended]:
        """Train the next epoch of each member; `check_stop` is called all the while, and may raise to end it.

        What fails is cut in halves and goes on, so that a failure reaches the one member whose it is; nor is it seen
        in a result where memory ran out.
        """
        self._check_stop = check_stop
        found: dict[int, Ended] = {}
        waiting = self._cut(members)
        running: dict[Future[None], Part] = {}
        count = torch.get_num_threads()
        with undisturbed(self.device), ThreadPoolExecutor(self.threads) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < self.threads:
                        part = waiting.pop(0)
                        running[pool.submit(_trained, part, self.device)] = part
                    done, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                    check_stop()
                    for future in done:
                        waiting += self._ended(future, running.pop(future), found)
            finally:
                for part in running.values():
                    part.stop = True
                wait(running)
                torch.set_num_threads(count)
        return [found[id(member)] for member in members]

    def _cut(self, members: Iterable[Member]) -> list[Part]:
        """Parts of members of one program and step, trials that share a training as one."""
        shared: dict[tuple[Any, ...], list[Member]] = {}
        for member in members:
            shared.setdefault((id(member.program), member.step_number, member.trajectory), []).append(member)
        leading: dict[tuple[Any, ...], list[Member]] = {}
        for key, found in shared.items():
            leader = max(found, key=lambda member: member.recipe.epochs)
            leader.followers = [member for member in found if member is not leader]
            leading.setdefault(key[:2], []).append(leader)
        parts = []
        for found in leading.values():
            found.sort(key=lambda member: member.update.kind)
            parts += [Part(lot) for lot in self.sizes.cut(found)]
        return parts

    def _ended(self, future: Future[None], part: Part, found: dict[int, Ended]) -> list[Part]:
        """Note what came of a part; gives what is still to be trained of it."""
        error = future.exception()
        if error is not None and not part.broken and len(part.members) > 1:
            if is_out_of_memory(error):
                self.sizes.too_large(part)
                free_memory()
            half = len(part.members) // 2
            return [Part(part.members[:half]), Part(part.members[half:])]
        if error is None:
            self.sizes.note(part)
        for leader in part.members:
            for member in (leader, *leader.followers):
                found[id(member)] = [member.records[-1]] if error is None else error
        return []


def _trained(part: Part, device: torch.device) -> None:
    if device.type == "cpu":
        torch.set_num_threads(1)
    part.train()
