"""Part: members that train as one batched model for an epoch, on one thread.

How members are cut into parts is a matter of speed and memory alone: a member's bits do not depend on it. To that end
each has its batch laid out for itself, and there are never fewer than three rows (a lone member gets twins).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from threading import RLock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuner.seeds import seed_for
from tuner.tasks.base import Samples, tensors_in
from tuner.training.batches import validation_batches
from tuner.training.fused.dropout import KEY_RANGE
from tuner.training.fused.feeds import DRAWING, Eater, Feeds, stacked
from tuner.training.fused.member import Member
from tuner.training.fused.updates import Crew, crews_of
from tuner.training.randomness import seed_generators
from tuner.training.series import TRACE_STEPS
from tuner.training.sums import Sums

LEAST_ROWS = 3
"""One row alone gives other bits than more, as matrix products of one are computed otherwise; with some convolutions,
such as the first of a ResNet, two do."""


class Stopped(BaseException):
    """A part was asked to stop; its members stand between two steps."""


class Part:
    """Some members of one program, at the same step of their epochs, as matrices of rows x width.

    Their plans are made, and give the same loss terms weight. `lock` is held during each step, so that who takes it
    finds every member between two steps. `stop` ends the work there. `broken` says that a step failed when members
    were half updated: they are of no use then. `failed` has what went wrong with single members at the epoch's end, by
    identity. `at_once` such parts of the program train at the same time. `seconds` is what `steps_taken` steps, and the
    validation, took; `learned` says that part of it went into recordings.
    """

    def __init__(self, members: Sequence[Member], at_once: int = 1) -> None:
        self.at_once = at_once
        self.members = sorted(members, key=lambda member: member.update.kind)
        self.program = self.members[0].program
        self.step_number = self.members[0].step_number
        self.lock = RLock()
        self.stop = self.broken = self.built = False
        self.failed: dict[int, Exception] = {}
        self.steps_taken, self.seconds = 0, 0.0
        self._learned = self.program.passes.learned
        self._numbers = {id(member): number for number, member in enumerate(self.members)}
        for member in self.everyone:
            member.part = self

    @property
    def everyone(self) -> list[Member]:
        """The members, and those that follow them."""
        return [entry for member in self.members for entry in (member, *member.followers)]

    @property
    def learned(self) -> bool:
        return self.program.passes.learned > self._learned

    def trains(self, member: Member) -> bool:
        """Whether a member has a row here; those that follow one have none."""
        return self.built and id(member) in self._numbers

    def build(self) -> None:
        """Lay the members' tensors out side by side, and make theirs views of that."""
        program, device = self.program, self.program.device
        self.rows = rows = [*self.members, *[self.members[-1]] * (LEAST_ROWS - len(self.members))]
        self.plans = [member.planned() for member in rows]
        self.weights = torch.stack([member.row for member in rows])
        self.gradients = torch.zeros_like(self.weights)
        self.others = {name: torch.stack([member.others[name] for member in rows]) for name in rows[0].others}
        self.state = {name: torch.stack([member.state[name] for member in rows]) for name in rows[0].state}
        self.sums = Sums.stacked([member.sums for member in rows])
        self.crews: list[Crew] = crews_of(self.members, rows, self.plans, self.weights, self.gradients)
        dtype = torch.promote_types(program.layout.dtype, torch.float32)
        steps = range(program.steps_per_epoch)
        weights = np.stack([plan.weights for plan in self.plans], axis=1)
        self._factors = torch.tensor(weights, dtype=dtype, device=device)
        self._used = [tuple(np.flatnonzero(weights[step, 0]).tolist()) for step in steps]
        clips = np.stack([plan.clips for plan in self.plans], axis=1)
        bounded = bool(np.isfinite(clips).any())
        self._clips = torch.tensor(clips, dtype=dtype, device=device).unsqueeze(2) if bounded else None
        self._keys = torch.tensor([[self._key(member, step) for member in rows] for step in steps], device=device)
        self._series: list[Tensor] = []
        self._series_from = self.step_number
        for number, member in enumerate(self.members):
            member.row = self.weights[number]
            member.others = {name: tensor[number] for name, tensor in self.others.items()}
            member.state = {name: tensor[number] for name, tensor in self.state.items()}
        self.built = True

    def _key(self, member: Member, step: int) -> int:
        if not self.program.drops:
            return 0
        return seed_for("dropout", member.recipe.dropout_seed, member.epochs_done, step) % KEY_RANGE

    def zero_keys(self) -> None:
        """Draw all dropout from key 0."""
        self._keys.zero_()

    @property
    def last_loss(self) -> Tensor:
        """The first row's loss at the last step."""
        return self._series[-1][0, -1]

    def train(self) -> None:
        """Train to the epoch's end, validate, and give each member, and those that follow it, its record.

        Raises `Stopped` where `stop` was set, and what the model or the task raises, with every member between two
        steps unless `broken`.
        """
        try:
            with self.lock:
                self.build()
            self.take_steps(self.program.steps_per_epoch)
            self._end_epoch()
        finally:
            with self.lock:
                self.release()

    def take_steps(self, number: int) -> None:
        """Take the next steps, as many as are left of `number`."""
        steps = min(self.step_number + number, self.program.steps_per_epoch)
        if self.step_number == steps:
            return
        eaters = [Eater(m.recipe, m.epochs_done, plan) for m, plan in zip(self.rows, self.plans, strict=True)]
        feeds = Feeds(self.program, eaters, self.step_number)
        while self.step_number < steps:
            if self.stop:
                raise Stopped
            started = time.perf_counter()
            with self.lock:
                self._step(feeds.batch(self.step_number))
                self._spend(time.perf_counter() - started)
            self.steps_taken += 1

    def _spend(self, seconds: float) -> None:
        """Give each member its share of the time."""
        self.seconds += seconds
        for member in self.members:
            member.seconds += seconds / len(self.members)

    def _step(self, batch: tuple[Any, Any]) -> None:
        number = self.step_number
        self._act(number)
        bounds = None if self._clips is None else self._clips[number]
        stack = (self.weights, self.gradients, self.others, self.state)
        factors, keys, used = self._factors[number], self._keys[number], self._used[number]
        step = self.program.train(*stack, batch, factors, keys, bounds, used)
        self.broken = True  # until the step is whole
        for crew in self.crews:
            crew.step(number, step.idle)
        for name, tensor in step.changed.items():
            self.others[name].copy_(tensor)
        self.sums.add_tensors(len(tensors_in(batch[0])[0][0]), step.sums)
        self._series.append(step.losses)
        self.step_number += 1
        self._trace()
        self.broken = False

    def _act(self, step: int) -> None:
        """Fire the actions of a step, member by member; once, should the step be tried again."""
        for number, member in enumerate(self.members):
            at = member.epochs_done * self.program.steps_per_epoch + step
            if member.acted_at == at:
                continue
            for name in self.plans[number].actions.get(step, ()):
                with DRAWING:
                    seed_generators(self.program.device, "action", member.recipe.data_seed, at, name)
                    changed = self.program.act(name, member.tensors(), member.state)
                for key, tensor in changed.items():
                    self.state[key][number].copy_(tensor.detach())
            member.acted_at = at

    def traced(self) -> dict[str, Tensor]:
        """What the task traces of each row's model, by name: rows x ..."""
        return self.program.trace(self.weights, self.others)

    def _trace(self) -> None:
        """Trace the members whose run, not their epoch, has come to a step that is traced."""
        if not self.program.traces:
            return
        ats = [member.epochs_done * self.program.steps_per_epoch + self.step_number for member in self.members]
        if any(at % TRACE_STEPS == 0 for at in ats):
            found = self.traced()
            for number, (member, at) in enumerate(zip(self.members, ats, strict=True)):
                if at % TRACE_STEPS == 0:
                    member.trace.add(at, {name: tensor[number].clone() for name, tensor in found.items()})

    def _end_epoch(self) -> None:
        started = time.perf_counter()
        validated = self.validated().rows(len(self.rows))
        trained = self.sums.rows(len(self.rows))
        with self.lock:
            for member in self.members:
                self.write_back(member)
            self._spend(time.perf_counter() - started)
            for number, member in enumerate(self.members):
                self._end_epoch_of(member, trained[number], validated[number], float(self.plans[number].rates[-1, 0]))

    def _end_epoch_of(self, member: Member, trained: Sums, validated: Sums, rate: float) -> None:
        """Give a member and its followers their record; what fails is a single trial's failure."""
        member.seconds /= 1 + len(member.followers)
        for follower in member.followers:
            follower.follow(member)
        for entry in (member, *member.followers):
            entry.part = None
            try:
                entry.end_epoch(trained, validated.averages("val", self.program.task), rate)
            except Exception as error:
                self.failed[id(entry)] = error

    def validated(self, batches: int | None = None) -> Sums:
        """The sums over all validation batches, or the first few."""
        program, sums, recipe = self.program, Sums(), self.members[0].recipe
        alike = torch.zeros(len(self.rows), dtype=torch.int64, device=program.device)
        source = iter(validation_batches(program.data.validation, recipe, program.device))
        factors, used = self._factors[-1], self._used[-1]
        for _ in itertools.count() if batches is None else range(batches):
            if self.stop:
                raise Stopped
            if isinstance(program.data.validation, Samples):
                batch = next(source, None)
            else:
                with DRAWING:
                    batch = next(source, None)
            if batch is None:
                break
            pair = stacked([(batch.inputs, batch.targets)], alike)
            found = program.validate(self.weights, self.others, self.state, pair, factors, used)
            sums.add_tensors(len(batch), found)
        return sums

    def write_back(self, member: Member) -> None:
        """Bring what a member does not share with this part up to date: its sums and series."""
        member.sums = self.sums.row(self._numbers[id(member)])
        if not self._series:
            return
        block = torch.stack(self._series).transpose(0, 1).float().cpu().numpy()
        last = self._series_from + len(self._series)
        for number, entry in enumerate(self.members):
            entry.series.extend(block[number], self.plans[number].rates[self._series_from : last, 0])
        self._series, self._series_from = [], last

    def release(self) -> None:
        """Let the members go; those whose epoch is not over stand at this part's step."""
        for member in self.everyone:
            if member.part is not self:
                continue
            if self.trains(member):
                self.write_back(member)
                member.step_number = self.step_number
            member.part = None


def masks_of(weights: np.ndarray) -> bytes:
    """Equal for plans that give the same loss terms weight at each step; `weights` is steps x terms."""
    return np.packbits(weights != 0).tobytes()
