"""Batches of an epoch: their order is a function of (data_seed, epoch) alone.

So is all that is random in a batch a function of (data_seed, epoch, step), whether it draws from the generator that it
is given or from global ones, in this process or in a worker: an epoch entered in its middle goes on as it would have.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tuner.recipe import Recipe
from tuner.seeds import seed_for
from tuner.tasks.base import Batch, Samples, Source, Task, as_batch
from tuner.training.randomness import CPU, seed_generators

VALIDATION_FACTOR = 4
"""Validation batches are this many times larger: without gradients they need less memory."""


def steps_per_epoch(source: Source, batch_size: int) -> int:
    """Batches in an epoch, the last of them possibly smaller."""
    return math.ceil(len(source) / batch_size)  # type: ignore[arg-type]


def epoch_order(count: int, data_seed: int, epoch: int) -> Tensor:
    """A permutation of `count` samples (int64, on the CPU); `epoch` counts from 0."""
    generator = torch.Generator().manual_seed(seed_for("order", data_seed, epoch))
    return torch.randperm(count, generator=generator)


def training_batches(
    task: Task,
    source: Source,
    recipe: Recipe,
    epoch: int,
    device: torch.device,
    properties: Callable[[int], Mapping[str, Any]],
    skip: int = 0,
    seen: int | None = None,
) -> Iterator[Batch]:
    """The batches of one epoch on `device`, without the first `skip`.

    `properties` gives the task's properties at a step of the epoch, counted from 0. `seen` is how many samples the
    first `skip` batches had, where they were of another size.
    """
    order = epoch_order(len(source), recipe.data_seed, epoch)  # type: ignore[arg-type]
    rest = order[skip * recipe.batch_size if seen is None else seen :]
    parts = list(enumerate(torch.split(rest, recipe.batch_size), skip)) if len(rest) else []
    if not isinstance(source, Samples):
        yield from _loaded(source, parts, recipe, device, ("batch", recipe.data_seed, epoch))
        return
    draws = type(task).batch is not Task.batch
    for step, part in parts:
        if draws:
            seed_generators(device, "batch", recipe.data_seed, epoch, step)
        generator = torch.Generator().manual_seed(seed_for("crops", recipe.data_seed, epoch, step))
        yield task.batch(source, part.to(source.device), properties(step), generator).to(device)


def validation_batches(source: Source, recipe: Recipe, device: torch.device) -> Iterator[Batch]:
    """All samples in order, on `device`; what a torch Dataset draws is the same in every epoch."""
    count = len(source)  # type: ignore[arg-type]
    parts = list(enumerate(torch.split(torch.arange(count), VALIDATION_FACTOR * recipe.batch_size)))
    if not isinstance(source, Samples):
        yield from _loaded(source, parts, recipe, device, ("validation batch", recipe.data_seed))
        return
    for _, part in parts:
        yield source.rows(part.to(source.device)).to(device)


def _loaded(
    source: Dataset[Any],
    parts: list[tuple[int, Tensor]],
    recipe: Recipe,
    device: torch.device,
    seed: tuple[object, ...],
) -> Iterator[Batch]:
    """Batches of a torch Dataset through a DataLoader, `num_workers` processes of the recipe's data reading ahead."""
    workers = int(recipe.data.get("num_workers", 0))
    loader = DataLoader(
        _Repeatable(source, CPU if workers else device, seed),
        batch_sampler=[(step, part.tolist()) for step, part in parts],  # type: ignore[misc]
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_signals,
        generator=torch.Generator().manual_seed(seed_for("workers", *seed)),
    )
    for items in loader:
        yield as_batch(items).to(device)


def _leave_signals(worker: int) -> None:
    """Ctrl-C reaches workers too, and is for their parent to take, which ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Repeatable(Dataset[Any]):
    """A Dataset asked for whole batches, by (step, indices); what it draws depends on `seed` and the step alone."""

    def __init__(self, source: Dataset[Any], device: torch.device, seed: tuple[object, ...]) -> None:
        self.source, self.device, self.seed = source, device, seed

    def __getitems__(self, asked: tuple[int, list[int]]) -> list[Any]:
        step, index = asked
        seed_generators(self.device, *self.seed, step)
        fetch = getattr(self.source, "__getitems__", None)
        samples: list[Any] = fetch(index) if fetch else [self.source[i] for i in index]
        return samples
