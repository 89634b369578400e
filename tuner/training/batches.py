"""Batches of an epoch: their order is a function of (data_seed, epoch) alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tuner.recipe import Recipe
from tuner.seeds import seed_for
from tuner.tasks.base import Batch, Samples, Source, Task, as_batch

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
) -> Iterator[Batch]:
    """The batches of one epoch on `device`, without the first `skip`.

    `properties` gives the task's properties at a step of the epoch, counted from 0.
    """
    order = epoch_order(len(source), recipe.data_seed, epoch)  # type: ignore[arg-type]
    parts = list(torch.split(order, recipe.batch_size))[skip:]
    if not isinstance(source, Samples):
        yield from _loaded(source, [part.tolist() for part in parts], recipe.data, device)
        return
    home = source.device
    for step, part in enumerate(parts, start=skip):
        generator = torch.Generator().manual_seed(seed_for("crops", recipe.data_seed, epoch, step))
        yield task.batch(source, part.to(home), properties(step), generator).to(device)


def validation_batches(source: Source, recipe: Recipe, device: torch.device) -> Iterator[Batch]:
    """All samples in order, on `device`."""
    count = len(source)  # type: ignore[arg-type]
    parts = torch.split(torch.arange(count), VALIDATION_FACTOR * recipe.batch_size)
    if not isinstance(source, Samples):
        yield from _loaded(source, [part.tolist() for part in parts], recipe.data, device)
        return
    for part in parts:
        yield source.rows(part.to(source.device)).to(device)


def _loaded(source: Any, parts: list[list[int]], options: Mapping[str, Any], device: torch.device) -> Iterator[Batch]:
    """Batches of a torch Dataset through a DataLoader, `options['num_workers']` processes reading ahead."""
    loader = DataLoader(
        source,
        batch_sampler=parts,
        num_workers=int(options.get("num_workers", 0)),
        pin_memory=device.type == "cuda",
    )
    for items in loader:
        yield as_batch(items).to(device)
