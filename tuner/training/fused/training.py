"""FusedTraining: one epoch of all members at once, cut into parts that train side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

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
from tuner.training.trainer import Trainer

POLL_SECONDS = 0.05
"""How often it is looked whether to stop while parts train."""

Ended = list[EpochRecord] | BaseException
"""What came of a member's epoch: its record, or why it failed."""


def shape_key(recipe: Recipe, task: Task) -> str:
    """Equal for recipes that can train in one group: what changes a model's shapes or code is equal in them.

    The task's properties are not: batches are made by them, trial by trial.
    """
    data = {name: value for name, value in recipe.data.items() if name not in task.properties}
    return json.dumps([recipe.model, data, recipe.batch_size, why_not(recipe.optimizer)], sort_keys=True, default=str)


class FusedTraining:
    """Trains members: on the CPU as many parts at once as torch has threads, each of its own on one.

    That the operations run on one thread each makes a member's bits independent of how many there are.
    """

    def __init__(self, trainer: Trainer, size: int | None = None) -> None:
        self.trainer, self.device, self.sizes = trainer, trainer.device, Sizes(size)
        self.threads = torch.get_num_threads() if self.device.type == "cpu" else 1
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
        waiting = [Part(group) for group in self._cut(members)]
        running: dict[Future[list[EpochRecord]], Part] = {}
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

    def _cut(self, members: Iterable[Member]) -> list[list[Member]]:
        """Members of one program and step, alike ones together, in lots of the size that suits the program."""
        alike: dict[tuple[int, int], list[Member]] = {}
        for member in members:
            alike.setdefault((id(member.program), member.step_number), []).append(member)
        lots = []
        for found in alike.values():
            found.sort(key=lambda member: member.update.kind)
            lots += self.sizes.cut(found, self.threads)
        return lots

    def _ended(self, future: Future[list[EpochRecord]], part: Part, found: dict[int, Ended]) -> list[Part]:
        """Note what came of a part; gives what is still to be trained of it."""
        error = future.exception()
        if error is None:
            for member, record in zip(part.members, future.result(), strict=True):
                found[id(member)] = [record]
            return []
        if part.broken or len(part.members) == 1:
            found.update((id(member), error) for member in part.members)
            return []
        self.sizes.too_large(part)
        half = len(part.members) // 2
        return [Part(part.members[:half]), Part(part.members[half:])]


def _trained(part: Part, device: torch.device) -> list[EpochRecord]:
    if device.type == "cpu":
        torch.set_num_threads(1)
    return part.train()
