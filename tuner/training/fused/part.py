"""Part: members that train as one batched model for an epoch, on one thread.

How members are cut into parts is a matter of speed and memory alone: a member's bits do not depend on it. To that end
each has its batch laid out for itself, and there are never fewer than two rows (a lone member gets a twin).
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
from tuner.tasks.base import tensors_in
from tuner.training.batches import validation_batches
from tuner.training.fused.dropout import KEY_RANGE
from tuner.training.fused.feeds import DRAWING, Eater, Feeds, stacked
from tuner.training.fused.member import Member
from tuner.training.fused.program import Outcome
from tuner.training.fused.updates import Crew, crews_of
from tuner.training.precision import matrices_in
from tuner.training.randomness import seed_generators
from tuner.training.series import TRACE_STEPS
from tuner.training.sums import Sums


class Stopped(BaseException):
    """A part was asked to stop; its members stand between two steps."""


class Part:
    """Some members of one program, at the same step of their epochs, as matrices of rows x width.

    `lock` is held during each step, so that who takes it finds every member between two steps. `stop` ends the work
    there. `broken` says that a step failed when members were half updated: they are of no use then. `seconds` is what
    `steps_taken` steps, and the validation, took.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = sorted(members, key=lambda member: member.update.kind)
        self.program = self.members[0].program
        self.step_number = self.members[0].step_number
        self.lock = RLock()
        self.stop = self.broken = False
        self.steps_taken, self.seconds = 0, 0.0
        self.rows = [*self.members, *[self.members[-1]] * (2 - len(self.members))]
        self.plans = [member.plan() for member in self.rows]
        self._stack()

    def _stack(self) -> None:
        """Lay the members' tensors out side by side, and make theirs views of that."""
        program, device, rows = self.program, self.program.device, self.rows
        self.weights = torch.stack([member.row for member in rows])
        self.gradients = torch.zeros_like(self.weights)
        self.others = {n: torch.stack([m.others[n] for m in rows]) for n in rows[0].others}
        self.state = {n: torch.stack([m.state[n] for m in rows]) for n in rows[0].state}
        for number, member in enumerate(self.members):
            member.row = self.weights[number]
        self.crews: list[Crew] = crews_of(self.members, self.rows, self.plans, self.weights, self.gradients)
        self.parameters = {
            name: view.detach().requires_grad_() for name, view in program.layout.views(self.weights).items()
        }
        self._into = list(program.layout.views(self.gradients).values())
        dtype = program.layout.dtype
        self._loss_weights = torch.tensor(np.stack([p.weights for p in self.plans], 1), dtype=dtype, device=device)
        clips = torch.tensor(np.stack([plan.clips for plan in self.plans], 1), dtype=dtype, device=device)
        self._clips = clips.unsqueeze(2) if bool(torch.isfinite(clips).any()) else None
        self._keys = torch.tensor(
            [[self._key(member, step) for member in rows] for step in range(program.steps_per_epoch)], device=device
        )
        self.sums = Sums.stacked([member.sums for member in rows])
        self._series: list[Tensor] = []
        self._series_from = self.step_number
        self._bind()

    def _bind(self) -> None:
        for number, member in enumerate(self.members):
            member.others = {name: tensor[number] for name, tensor in self.others.items()}
            member.state = {name: tensor[number] for name, tensor in self.state.items()}

    def _key(self, member: Member, step: int) -> int:
        if not self.program.drops:
            return 0
        return seed_for("dropout", member.recipe.dropout_seed, member.epochs_done, step) % KEY_RANGE

    def train(self) -> None:
        """Train to the epoch's end, validate, and give each member, and those that follow it, its record.

        Raises `Stopped` where `stop` was set, and what the model or the task raises, with every member between two
        steps unless `broken`.
        """
        for member in self.members:
            member.part = self
        try:
            self.take_steps(self.program.steps_per_epoch)
            self._end_epoch()
        finally:
            with self.lock:
                self._release()

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
        step = self.step_number
        self._act(step)
        program, parameters = self.program, self.parameters
        with matrices_in(program.precision, program.device):
            outcome, changed = program.train(
                parameters, self.others, self.state, batch, self._loss_weights[step], self._keys[step]
            )
            found = torch.autograd.grad(outcome.loss.sum(), list(parameters.values()), materialize_grads=True)
        norms = self._gathered(found)
        self.broken = True  # until the step is whole
        self._clip(norms, step)
        with torch.no_grad():
            for crew in self.crews:
                crew.step(step)
            for name, tensor in changed.items():
                self.others[name].copy_(tensor)
        self._count(outcome, len(tensors_in(batch[0])[0][0]), norms)
        self.step_number += 1
        self._trace()
        self.broken = False

    @torch.no_grad()
    def _gathered(self, found: Sequence[Tensor]) -> Tensor:
        """Bring gradients into the matrix; gives their norms, rows x 1."""
        for view, gradient in zip(self._into, found, strict=True):
            view.copy_(gradient)
        norms: Tensor = torch.linalg.vector_norm(self.gradients, dim=1, keepdim=True)
        return norms

    @torch.no_grad()
    def _clip(self, norms: Tensor, step: int) -> None:
        if self._clips is None:
            return
        bounds = self._clips[step]
        factors = (bounds / (norms + 1e-6)).clamp(max=1.0)  # torch's own constant
        self.gradients.mul_(torch.where(bounds.isinf(), 1.0, factors))

    @torch.no_grad()
    def _count(self, outcome: Outcome, count: int, norms: Tensor) -> None:
        loss = outcome.loss.detach()
        terms = dict(zip(self.program.terms, outcome.terms.unbind(1), strict=True))
        self.sums.add(count, loss, terms, outcome.metrics, norms[:, 0])  # type: ignore[arg-type]
        self._series.append(torch.cat([outcome.terms, loss.unsqueeze(1)], dim=1))

    def _act(self, step: int) -> None:
        """Fire the actions of a step, member by member."""
        for number, member in enumerate(self.members):
            for name in self.plans[number].actions.get(step, ()):
                at = member.epochs_done * self.program.steps_per_epoch + step
                with DRAWING:
                    seed_generators(self.program.device, "action", member.recipe.data_seed, at, name)
                    changed = self.program.act(name, member.tensors(), member.state)
                for key, tensor in changed.items():
                    self.state[key][number].copy_(tensor.detach())

    def traced(self) -> dict[str, Tensor]:
        """What the task traces of each row's model, by name: rows x ..."""
        return self.program.trace(self.parameters, self.others)

    def _trace(self) -> None:
        if not self.program.traces or self.step_number % TRACE_STEPS:
            return
        found = self.traced()
        done = self.program.steps_per_epoch
        for number, member in enumerate(self.members):
            at = member.epochs_done * done + self.step_number
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
                values = validated[number].averages("val", self.program.task)
                rate = float(self.plans[number].rates[-1, 0])
                member.part = None
                member.seconds /= 1 + len(member.followers)
                for follower in member.followers:
                    follower.follow(member)
                for entry in (member, *member.followers):
                    entry.end_epoch(trained[number], values, rate)

    def validated(self, batches: int | None = None) -> Sums:
        """The sums over all validation batches, or the first few."""
        program, sums = self.program, Sums()
        alike = torch.zeros(len(self.rows), dtype=torch.int64, device=program.device)
        recipe = self.members[0].recipe
        every_batch = validation_batches(program.data.validation, recipe, program.device)
        for batch in itertools.islice(every_batch, batches):
            if self.stop:
                raise Stopped
            pair = stacked([(batch.inputs, batch.targets)], alike)
            outcome = program.validate(self.parameters, self.others, self.state, pair, self._loss_weights[-1])
            terms = dict(zip(program.terms, outcome.terms.unbind(1), strict=True))
            sums.add(len(batch), outcome.loss, terms, outcome.metrics, None)  # type: ignore[arg-type]
        return sums

    def write_back(self, member: Member) -> None:
        """Bring what a member does not share with this part up to date: its sums and series."""
        number = self.members.index(member)
        member.sums = self.sums.row(number)
        self._write_series()

    def _write_series(self) -> None:
        if not self._series:
            return
        block = torch.stack(self._series).transpose(0, 1).float().cpu().numpy()
        last = self._series_from + len(self._series)
        for number, member in enumerate(self.members):
            rates = self.plans[number].rates[self._series_from : last, 0]
            member.series.extend(block[number], rates)
        self._series, self._series_from = [], last

    def _release(self) -> None:
        """Let the members go; those whose epoch is not over stand at this part's step."""
        for member in self.members:
            if member.part is self:
                self.write_back(member)
                member.step_number = self.step_number
                member.part = None
