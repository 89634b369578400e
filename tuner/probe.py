"""One batch through a task's model, before anyone waits for it: shapes, loss terms, metrics, and whose fault it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuner.errors import SearchSpaceError, TaskError, UsageError
from tuner.recipe import Recipe
from tuner.registry import place_of
from tuner.seeds import seed_for
from tuner.tasks import Batch, Data, Mean, Samples, Task, task_source
from tuner.tasks.base import Source, as_batch

PROBE_SAMPLES = 4


@dataclass(frozen=True)
class Probe:
    """What one batch through a task's model shows: shapes, loss terms, metrics, parameters; and training samples.

    `has_tensors` says whether training batches come from `Task.batch`; `warnings` are what a user should know before
    training, as `resolve` finds them.
    """

    input_shape: str
    output_shape: str
    parameters: int
    terms: tuple[str, ...]
    metrics: tuple[str, ...]
    samples: int = 1
    has_tensors: bool = True
    warnings: tuple[str, ...] = ()

    def steps_per_epoch(self, batch_size: int) -> int:
        """Training batches in an epoch, the last of them possibly smaller."""
        return math.ceil(self.samples / batch_size)

    @property
    def recorded(self) -> tuple[str, ...]:
        """Every name recorded per epoch, and so every valid metric or monitor."""
        names = ("loss", *self.terms, *self.metrics)
        return tuple(f"{part}_{name}" for part in ("train", "val") for name in names)

    @property
    def unweighted(self) -> tuple[str, ...]:
        """The recorded names that no loss weight changes."""
        return tuple(name for name in self.recorded if name not in ("train_loss", "val_loss"))


def probe_task(task: Task, recipe: Recipe, place: str = "recipe.model") -> Probe:
    """Push a few validation samples through a fresh model and its losses, as a trial would.

    Raises `SearchSpaceError` for options that make no model, `TaskError` for a task that breaks its contract.
    """
    model = build_model(task, recipe, place)
    with _blaming(task, "data"):
        data = task.data(recipe.data)
        if not isinstance(data, Data):
            raise _broken(task, "data must give Data(train=..., validation=...)", data)
        batch = first_batch(data.validation)
    model.eval()
    with torch.no_grad():
        with _blaming(task, "predict", f" on inputs of {describe_shape(batch.inputs)}"):
            output = task.predict(model, batch.inputs)
        with _blaming(task, "losses"):
            terms = task.losses(output, batch, task.state())
        with _blaming(task, "metrics"):
            metrics = task.metrics(output, batch)
        with _blaming(task, "derived"):
            averages = dict.fromkeys(("loss", *_names(terms), *_names(metrics)), 0.5)
            derived = task.derived(averages)
    if not isinstance(metrics, Mapping) or not all(isinstance(entry, Mean) for entry in metrics.values()):
        raise _broken(task, "metrics must give Means: {'mae': Mean.of(errors.abs())}", metrics)
    if not isinstance(derived, Mapping):
        raise _broken(task, "derived must give named numbers: {'psnr': ...}", derived)
    recorded = (*metrics, *derived)
    _check_terms(task, terms, recorded)
    return Probe(
        input_shape=describe_shape(batch.inputs),
        output_shape=describe_shape(output),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        terms=tuple(terms),
        metrics=recorded,
        samples=len(data.train),  # type: ignore[arg-type]
        has_tensors=isinstance(data.train, Samples),
        warnings=data.notes,
    )


def _names(values: object) -> list[str]:
    return list(values) if isinstance(values, Mapping) else []


def _broken(task: Task, rule: str, given: object) -> TaskError:
    """A method of the task that gives something else than it promises."""
    return TaskError(f"{type(task).__name__}.{rule}", place=str(_source(task)), value=type(given).__name__)


@contextmanager
def _blaming(task: Task, method: str, detail: str = "") -> Iterator[None]:
    """Turn an exception of the task's own code into a `TaskError` that names the file and line."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        own = method in vars(type(task)) or method != "predict"
        name = f"{type(task).__name__}.{method}" if own else "the model"
        rule = f"{name} fails{detail}: {type(error).__name__}: {error}"
        raise TaskError(rule, place=place_of(error, _source(task))) from error


def _source(task: Task) -> Path:
    """The task's file, as short as it can be said from here."""
    path = task_source(task)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def build_model(task: Task, recipe: Recipe, place: str = "recipe.model") -> torch.nn.Module:
    """The task's model for a recipe, on the CPU; its weights depend on `recipe.seed` alone.

    Raises `SearchSpaceError` where the task refuses the options, `TaskError` where its code fails.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("weights", recipe.seed))
        with _blaming(task, "build_model"):
            try:
                model = task.build_model(recipe.model)
            except ValueError as error:
                raise SearchSpaceError(str(error), place=place, value=recipe.model) from error
            if not isinstance(model, torch.nn.Module):
                raise _broken(task, "build_model must give a torch.nn.Module", model)
            return model


def first_batch(source: Source, count: int = PROBE_SAMPLES) -> Batch:
    """The first few samples of a source."""
    if isinstance(source, Samples):
        return source.rows(torch.arange(min(count, len(source))))
    size = min(count, len(source))  # type: ignore[arg-type]
    return as_batch(torch.utils.data.default_collate([source[i] for i in range(size)]))


def describe_shape(value: Any) -> str:
    """Shapes of the tensors in a nested value: `4 x 1 x 8 x 8`."""
    if isinstance(value, torch.Tensor):
        return " x ".join(str(size) for size in value.shape) or "scalar"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {describe_shape(entry)}" for name, entry in value.items())
    if isinstance(value, (tuple, list)):
        return ", ".join(describe_shape(entry) for entry in value)
    return type(value).__name__


def _check_terms(task: Task, terms: object, metrics: tuple[str, ...]) -> None:
    owner, place = type(task).__name__, str(_source(task))
    if not isinstance(terms, Mapping):
        raise TaskError(
            f"{owner}.losses must give named terms: {{'mse': ...}}", place=place, value=type(terms).__name__
        )
    if not terms:
        raise TaskError(f"{owner}.losses returns no loss term", place=place)
    for name in [*terms, *metrics]:
        if name == "loss" or (name in terms and name in metrics):
            raise TaskError(
                f"{owner}: '{name}' is taken; name loss terms and metrics apart, and none of them 'loss'", place=place
            )
    for name, term in terms.items():
        if not isinstance(term, torch.Tensor) or term.dim() > 1:
            rule = f"{owner}.losses must give one value per sample (or one in all) for '{name}'"
            raise TaskError(rule, place=place, value=describe_shape(term))
