"""FusedTraining: one epoch of all members at once, cut into parts that train side by side."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Thread
from typing import Any
from weakref import WeakValueDictionary

import torch

from tuner.optimizers.by_torch import why_not
from tuner.recipe import Recipe
from tuner.tasks.base import Data, Samples, Task, tensors_in
from tuner.training.fused.examining import NotFusableError, changing_reach, examined
from tuner.training.fused.member import Member
from tuner.training.fused.part import Part, masks_of
from tuner.training.fused.program import Program
from tuner.training.fused.sizes import Sizes
from tuner.training.randomness import undisturbed
from tuner.training.run import EpochRecord
from tuner.training.trainer import Trainer, free_memory, is_out_of_memory

POLL_SECONDS = 0.05
"""How often it is looked whether to stop while parts train."""

PROGRAMS_KEPT = 8
"""So many of the last shapes stay ready, beside those of members that there are."""

CheckStop = Callable[[], None]


def never() -> None:
    """Never stops."""


Ended = list[EpochRecord] | BaseException
"""What came of a member's epoch: its record, or why it failed."""


def shape_key(recipe: Recipe, task: Task) -> str:
    """Equal for recipes that can train in one group: what changes a model's shapes or code is equal in them.

    The task's properties are not: batches are made by them, trial by trial.
    """
    data = {name: value for name, value in recipe.data.items() if name not in task.properties}
    same = [recipe.model, data, recipe.batch_size, recipe.precision, why_not(recipe.optimizer)]
    return json.dumps(same, sort_keys=True, default=str)


def same_data(one: Data, other: Data) -> bool:
    """Whether two recipes train and validate on the same samples."""
    pairs = ((one.train, other.train), (one.validation, other.validation))
    return all(a is b or (isinstance(a, Samples) and isinstance(b, Samples) and _equal(a, b)) for a, b in pairs)


def _equal(one: Samples, other: Samples) -> bool:
    left, right = (tensors_in([samples.inputs, samples.targets]) for samples in (one, other))
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


class FusedTraining:
    """Trains members: on the CPU as many parts at once as torch has threads, each of its own on one.

    That the operations run on one thread each makes a member's bits independent of how many there are.
    """

    def __init__(self, trainer: Trainer, most: int | None = None) -> None:
        self.trainer, self.device = trainer, trainer.device
        self.threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        self.sizes = Sizes(self.threads, self.device, most)
        self._programs: WeakValueDictionary[str, Program] = WeakValueDictionary()
        self._recent: deque[Program] = deque(maxlen=PROGRAMS_KEPT)
        self._refused: dict[str, str] = {}

    def why_not(self, recipe: Recipe) -> str:
        """Why trials of this recipe cannot train fused; "" if they can. Tries its shape, the first time."""
        program = self._program(recipe)
        return program if isinstance(program, str) else changing_reach(program, recipe)

    def start(self, recipe: Recipe, check_stop: CheckStop = never) -> Member:
        """A member before its first step; `NotFusableError` for a recipe that cannot train fused.

        `check_stop` is called while it trains by its own `epoch`, and may raise to end that.
        """
        program = self._program(recipe)
        if isinstance(program, str):
            raise NotFusableError(program)
        return Member(program, recipe, self.trainer.goal, lambda member: self._alone(member, check_stop))

    def _program(self, recipe: Recipe) -> Program | str:
        trainer, key = self.trainer, shape_key(recipe, self.trainer.task)
        if key in self._refused:
            return self._refused[key]
        try:
            data = trainer.data(recipe)
            program = self._programs.get(key)
            if program is not None and not same_data(program.data, data):  # a property that `data` reads too
                key += json.dumps(recipe.data, sort_keys=True, default=str)
                program = self._programs.get(key)
            if program is None:
                program = examined(trainer.task, data, recipe, trainer.goal, trainer.terms, trainer.device)
                self._programs[key] = program
        except NotFusableError as error:
            self._refused[key] = str(error)
            return self._refused[key]
        except Exception as error:  # data that cannot be had fails its trial alone
            return str(error)
        self._recent.append(program)
        return program

    def _alone(self, member: Member, check_stop: CheckStop) -> list[EpochRecord]:
        (ended,) = self.epoch([member], check_stop)
        if isinstance(ended, BaseException):
            raise ended
        return ended

    def epoch(self, members: Sequence[Member], check_stop: CheckStop = never) -> list[Ended]:
        """Train the next epoch of each member; `check_stop` is called all the while, and may raise to end it.

        What fails is cut in halves and goes on, so that a failure reaches the one member whose it is; nor is it seen
        in a result where memory ran out.
        """
        found: dict[int, Ended] = {}
        waiting = self._cut(members, found)
        running: dict[Future[None], Part] = {}
        count = torch.get_num_threads()
        with undisturbed(self.device):
            try:
                while waiting or running:
                    while waiting and len(running) < self.threads:
                        part = waiting.popleft()
                        running[_submitted(part, self.device)] = part
                    done, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                    check_stop()
                    for future in done:
                        waiting.extend(self._ended(future, running.pop(future), found))
            finally:
                for part in running.values():
                    part.stop = True
                wait(running)
                for part in waiting:
                    part.release()
                torch.set_num_threads(count)
        return [found[id(member)] for member in members]

    def _cut(self, members: Iterable[Member], found: dict[int, Ended]) -> deque[Part]:
        """Parts of members that can be one model in this epoch, trials that share a training as one."""
        shared: dict[tuple[Any, ...], list[Member]] = {}
        for member in members:
            try:
                masks = masks_of(member.planned().weights)
            except Exception as error:  # a scheduler's expression may fail at any step
                found[id(member)] = error
                continue
            together = (id(member.program), member.step_number, masks, self._drawing_seed(member))
            shared.setdefault((together, member.epochs_done, member.trajectory), []).append(member)
        leading: dict[Any, list[Member]] = {}
        for key, alike in shared.items():
            leader = max(alike, key=lambda member: member.recipe.epochs)
            leader.followers = [member for member in alike if member is not leader]
            leading.setdefault(key[0], []).append(leader)
        lots = [sorted(leaders, key=lambda member: member.update.kind) for leaders in leading.values()]
        return deque(Part(part, at_once) for part, at_once in self.sizes.cut(lots))

    def _drawing_seed(self, member: Member) -> int:
        """What a torch Dataset may draw validation samples by: those are one part's together."""
        return 0 if isinstance(member.program.data.validation, Samples) else member.recipe.data_seed

    def _ended(self, future: Future[None], part: Part, found: dict[int, Ended]) -> list[Part]:
        """Note what came of a part; gives what is still to be trained of it."""
        error = future.exception()
        if error is not None and not part.broken and len(part.members) > 1:
            if is_out_of_memory(error):
                self.sizes.too_large(part)
                free_memory()
            half = len(part.members) // 2
            return [Part(some, part.at_once) for some in (part.members[:half], part.members[half:])]
        if error is None:
            self.sizes.note(part)
        for member in part.everyone:
            failed = error or part.failed.get(id(member))
            found[id(member)] = [member.records[-1]] if failed is None else failed
        return []


def _submitted(part: Part, device: torch.device) -> Future[None]:
    """Train a part on a thread of its own.

    Not of a pool: the worker processes of a DataLoader, which are forked there, could not end (they would wait for it).
    """
    future: Future[None] = Future()

    def train() -> None:
        if device.type == "cpu":
            torch.set_num_threads(1)
        try:
            part.train()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(None)

    Thread(target=train, name="part").start()
    return future
