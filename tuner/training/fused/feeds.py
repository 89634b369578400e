"""Feeds: the training batches of a stack of trials, to each its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from tuner.recipe import Recipe
from tuner.tasks.base import Batch, Samples, Task, mapped, tensors_in
from tuner.training.batches import epoch_order, training_batches
from tuner.training.fused.plan import Plan
from tuner.training.fused.program import Program

DRAWING = Lock()
"""Held while something draws from the global generators, which all threads share."""


@dataclass(frozen=True)
class Eater:
    """What decides a trial's batches in an epoch, which counts from 0."""

    recipe: Recipe
    epoch: int
    plan: Plan


class Feeds:
    """The batches of one epoch from step `skip` on, for a stack of `eaters` that have one program.

    Trials that see the same batches share the work of making them, and get a copy each.
    """

    def __init__(self, program: Program, eaters: Sequence[Eater], skip: int) -> None:
        self.program = program
        self._plain = isinstance(program.data.train, Samples) and type(program.task).batch is Task.batch
        keys = [self._key(eater) for eater in eaters]
        distinct = dict(zip(keys, eaters, strict=True))
        numbers = {key: number for number, key in enumerate(distinct)}
        self._rows = torch.tensor([numbers[key] for key in keys], device=program.device)
        if self._plain:
            samples = program.data.train
            orders = [epoch_order(len(samples), e.recipe.data_seed, e.epoch) for e in distinct.values()]  # type: ignore[arg-type]
            self._orders = torch.stack(orders).to(samples.device)  # type: ignore[union-attr]
        else:
            self._sources = [_batches(program, eater, skip) for eater in distinct.values()]

    def _key(self, eater: Eater) -> tuple[Any, ...]:
        recipe = eater.recipe
        if self._plain:
            return (recipe.data_seed, eater.epoch)
        run = (json.dumps(recipe.timeline, default=str), recipe.epochs) if recipe.timeline is not None else ()
        return (recipe.data_seed, eater.epoch, json.dumps(recipe.data, sort_keys=True, default=str), *run)

    def batch(self, step: int) -> tuple[Any, Any]:
        """The (inputs, targets) of a step, each tensor trials x batch x ...; steps are to be asked for in order."""
        if self._plain:
            size = self.program.batch_size
            index = self._orders[:, step * size : (step + 1) * size][self._rows.to(self._orders.device)]
            batch = self.program.data.train.rows(index).to(self.program.device)  # type: ignore[union-attr]
            return batch.inputs, batch.targets
        with DRAWING:
            found = [next(source) for source in self._sources]
        pairs = [(batch.inputs, batch.targets) for batch in found]
        inputs, targets = stacked(pairs, self._rows)
        return inputs, targets


def _batches(program: Program, eater: Eater, skip: int) -> Iterator[Batch]:
    def properties(step: int) -> Mapping[str, Any]:
        return eater.plan.properties_at(step)

    data, device = program.data.train, program.device
    return training_batches(program.task, data, eater.recipe, eater.epoch, device, properties, skip)


def stacked(pairs: Sequence[Any], rows: Tensor) -> Any:
    """Nested tensors of one form, that of number `rows[i]` for trial i, laid out for each: trials x ..."""
    if len(pairs) == 1:
        return mapped(lambda tensor: tensor.expand(len(rows), *tensor.shape).contiguous(), pairs[0])
    columns = iter([torch.stack(parts) for parts in zip(*map(tensors_in, pairs), strict=True)])
    return mapped(lambda _: next(columns)[rows].contiguous(), pairs[0])
