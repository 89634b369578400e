"""Three ways to train an epoch: the loop of a tutorial, the same without DataLoader, and fused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from models import CLIP, Job
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tuner.recipe import Recipe
from tuner.tasks.base import Batch, Samples, as_batch, mapped
from tuner.training.batches import VALIDATION_FACTOR
from tuner.training.fused.feeds import Feeds
from tuner.training.fused.part import Part
from tuner.training.fused.training import FusedTraining
from tuner.training.precision import forward_in, matrices_in
from tuner.training.randomness import CPU


class Spent(NamedTuple):
    """Seconds of one trial's epoch: making its batches, all else of its training, and its validation."""

    batches: float
    steps: float
    validation: float

    @property
    def training(self) -> float:
        return self.batches + self.steps


class Way(Protocol):
    """A way to train."""

    def epoch(self) -> Spent:
        """Train another epoch; gives what one trial's took."""


class IndexingLoop:
    """One trial, its batches cut from tensors on the device by a permutation."""

    def __init__(self, job: Job, recipe: Recipe, threads: int) -> None:
        self.job, self.recipe, self.threads, self.device = job, recipe, threads, job.device
        self.task, self.size = job.trainer.task, recipe.batch_size
        self.model = job.model(recipe)
        optimizer = getattr(torch.optim, recipe.optimizer)
        self.optimizer = optimizer(self.model.parameters(), lr=recipe.learning_rate, **recipe.optimizer_kwargs)
        self.train, self.validation = job.train.to(self.device), job.validation.to(self.device)
        self.generator = torch.Generator().manual_seed(0)
        self.total: float | Tensor = 0.0

    def batches(self) -> Iterator[Batch]:
        """The batches of an epoch."""
        order = torch.randperm(len(self.train), device=self.device)
        for index in torch.split(order, self.size):
            yield self.task.batch(self.train, index, self.job.properties, self.generator)

    def validation_batches(self) -> Iterator[Batch]:
        """All validation samples, in larger batches."""
        everything = torch.arange(len(self.validation), device=self.device)
        for index in torch.split(everything, VALIDATION_FACTOR * self.size):
            yield self.validation.rows(index)

    def step(self, batch: Batch) -> None:
        self.optimizer.zero_grad()
        with forward_in(self.recipe.precision, self.device):
            loss = self.job.loss(self.task.forward(self.model, batch), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.total += self.noted(loss) * len(batch)

    def noted(self, loss: Tensor) -> float | Tensor:
        """The number to be added up, which stays on the device so that no step waits for it."""
        return loss.detach()

    @torch.no_grad()
    def validate(self) -> None:
        self.model.eval()
        for batch in self.validation_batches():
            with forward_in(self.recipe.precision, self.device):
                output = self.task.predict(self.model, batch.inputs)
                self.total += self.noted(self.job.loss(output, batch)) * len(batch)
                self.task.metrics(output, batch)

    def epoch(self) -> Spent:
        torch.set_num_threads(self.threads)
        with matrices_in(self.recipe.precision, self.device):
            return self.timed_epoch()

    def timed_epoch(self) -> Spent:
        self.total, making = 0.0, 0.0
        started = now(self.device)
        self.model.train()
        batches = self.batches()
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            making += time.perf_counter() - asked
            if batch is None:
                break
            self.step(batch)
        trained = now(self.device)
        self.validate()
        return Spent(making, trained - started - making, now(self.device) - trained)


class LoaderLoop(IndexingLoop):
    """One trial as a tutorial trains it: a Dataset of single samples through a shuffling DataLoader."""

    def __init__(self, job: Job, recipe: Recipe, threads: int) -> None:
        super().__init__(job, recipe, threads)
        pinned = job.device.type == "cuda"
        self.loader: DataLoader[Any] = DataLoader(OneByOne(job.train), self.size, shuffle=True, pin_memory=pinned)
        self.validation_loader: DataLoader[Any] = DataLoader(
            OneByOne(job.validation), VALIDATION_FACTOR * self.size, pin_memory=pinned
        )

    def batches(self) -> Iterator[Batch]:
        for items in self.loader:
            batch = as_batch(items)
            if self.job.case.augments:
                collated, index = Samples(batch.inputs, batch.targets), torch.arange(len(batch))
                batch = self.task.batch(collated, index, self.job.properties, self.generator)
            yield batch.to(self.device)

    def validation_batches(self) -> Iterator[Batch]:
        for items in self.validation_loader:
            yield as_batch(items).to(self.device)

    def noted(self, loss: Tensor) -> float | Tensor:
        return loss.item()


class OneByOne(Dataset[Any]):
    """Samples one at a time: (input, target), or the input alone."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Any:
        inputs, targets = self.samples.inputs, self.samples.targets
        first = inputs[number] if isinstance(inputs, Tensor) else mapped(lambda tensor: tensor[number], inputs)
        if targets is None:
            return first
        second = targets[number] if isinstance(targets, Tensor) else mapped(lambda tensor: tensor[number], targets)
        return first, second


class Fused:
    """`trials` at once, as `tuner` trains them, on as many threads. What starts them is not part of an epoch."""

    def __init__(self, job: Job, trials: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.device, self.threads = job.device, threads
        started = now(self.device)
        self.training = FusedTraining(job.trainer)
        self.training.why_not(job.recipe)
        self.examining = now(self.device) - started
        self.members = [self.training.start(recipe) for recipe in job.recipes(trials)]
        self.starting = (now(self.device) - started - self.examining) / trials

    def epoch(self) -> Spent:
        torch.set_num_threads(self.threads)
        # No waiting for a GPU at every batch: it is the host's time that is noted of them.
        with timed(Feeds, "batch", CPU) as making, timed(Part, "validated", self.device) as validating:
            started = now(self.device)
            ended = self.training.epoch(self.members)
            seconds = now(self.device) - started
        for entry in ended:
            if isinstance(entry, BaseException):
                raise entry
        count = len(self.members)
        batches, validation = (sum(found) / self.training.threads for found in (making, validating))
        return Spent(batches / count, (seconds - batches - validation) / count, validation / count)


@contextmanager
def timed(owner: type, method: str, device: torch.device) -> Iterator[list[float]]:
    """Notes the seconds of each call of a method, in whatever thread, while the block runs."""
    original = getattr(owner, method)
    found: list[float] = []

    def measured(*arguments: Any, **named: Any) -> Any:
        started = now(device)
        result = original(*arguments, **named)
        found.append(now(device) - started)
        return result

    setattr(owner, method, measured)
    try:
        yield found
    finally:
        setattr(owner, method, original)


def now(device: torch.device) -> float:
    """The time in seconds, when `device` has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
