"""Task: what is trained. A user's own task is a file with one subclass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tuner.errors import TaskError

if TYPE_CHECKING:  # only pictures need Pillow
    from PIL.Image import Image


class Mean(NamedTuple):
    """A mean as (total, number), so that batches of any size average rightly; both scalars.

    What no sample of an epoch adds to (number 0) is not recorded.
    """

    total: Tensor
    number: int | Tensor

    @classmethod
    def of(cls, values: Tensor, where: Tensor | None = None) -> Mean:
        """The mean of a tensor's entries, bool counted as 0 and 1; `where` (bool, of the same shape) picks some."""
        values = values.detach().to(torch.float32)
        if where is None:
            return cls(values.sum(), values.numel())
        return cls(torch.where(where, values, 0.0).sum(), where.sum())


@dataclass(frozen=True)
class Batch:
    """Some samples: `inputs` and `targets` of shape batch x ..., on one device; None where there are no targets."""

    inputs: Any
    targets: Any = None

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        return Batch(_moved(self.inputs, device), _moved(self.targets, device))

    def __len__(self) -> int:
        return len(tensors_in(self.inputs)[0])


@dataclass(frozen=True)
class Samples:
    """All samples: `inputs` and `targets` are tensors of shape samples x ..., or mappings of names to such."""

    inputs: Any
    targets: Any = None

    def __len__(self) -> int:
        return len(tensors_in(self.inputs)[0])

    @property
    def device(self) -> torch.device:
        """Where the samples lie."""
        return tensors_in(self.inputs)[0].device

    def rows(self, index: Tensor) -> Batch:
        """The samples at `index` (batch,), an int64 tensor on the samples' device."""

        def picked(tensor: Tensor) -> Tensor:
            return tensor[index]

        return Batch(mapped(picked, self.inputs), mapped(picked, self.targets))

    def to(self, device: torch.device) -> Samples:
        """The samples on `device`."""
        return Samples(_moved(self.inputs, device), _moved(self.targets, device))

    def nbytes(self) -> int:
        """Bytes of memory they take."""
        return sum(tensor.nbytes for tensor in tensors_in([self.inputs, self.targets]))


Source = Samples | Dataset[Any]
"""Where batches come from: tensors (kept on the device where they fit) or a torch Dataset of (input, target)."""


@dataclass(frozen=True)
class Data:
    """What a task trains and validates on; `test` is held out: no search sees it (see `Task.test_data`).

    `notes` are what a user should know of the data, such as how much of a folder was left out.
    """

    train: Source
    validation: Source
    test: Source | None = None
    notes: tuple[str, ...] = ()


class Task(ABC):
    """What is trained: data, model, loss terms and metrics.

    `name` declares a bundled task. `model_options` and `data_options` are the options that `build_model` and
    `data` take, with their defaults: other names in a recipe's `model` and `data` are errors; `--data PATH` sets
    the data option `path`. `properties` are the data options that `batch` reads anew at every step, and so may
    follow a timeline or be turned live, from one end to the other of `ranges`; `actions` are the names that
    `on_action` knows, `phases` those that `batch` does (empty: any), `sound_names` those that `sounds` gives.
    `fusable` is False for models that must train alone, `held_out` where validation is on samples that are
    trained on, by design.
    """

    name: ClassVar[str] = ""
    model_options: ClassVar[Mapping[str, Any]] = {}
    data_options: ClassVar[Mapping[str, Any]] = {}
    properties: ClassVar[tuple[str, ...]] = ()
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}
    actions: ClassVar[tuple[str, ...]] = ()
    phases: ClassVar[tuple[str, ...]] = ()
    sound_names: ClassVar[tuple[str, ...]] = ()
    held_out: ClassVar[bool] = True
    fusable: ClassVar[bool] = True

    @abstractmethod
    def data(self, options: Mapping[str, Any]) -> Data:
        """The data for `options` (the recipe's `data`); must be the same every time it is called."""

    def test_data(self, options: Mapping[str, Any]) -> Source | None:
        """Samples that no search has seen, for a last look at what it found; None where there are none.

        They are those of `data`, unless a task makes them here, where only `tuner confirm` asks for them. They share no
        sample with what `data` gives for the same options, and are the same every time.
        """
        return self.data(options).test

    @abstractmethod
    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        """A new model for `options` (the recipe's `model`), its weights drawn from torch's global generator.

        Raises `ValueError` for options that make no model.
        """

    @abstractmethod
    def losses(self, output: Any, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Named loss terms, each of shape (batch,), or () for a term of the whole batch; pure."""

    def batch(self, data: Samples, index: Tensor, properties: Mapping[str, Any], generator: torch.Generator) -> Batch:
        """The samples at `index` (batch,) for a training step; crops and augmentation draw from `generator`.

        `properties` is the recipe's `data`, those that follow a timeline at their value of this step, and `phase`,
        the timeline's phase ("" without one). One task serves all trials at once, so keep nothing of a recipe on
        `self`. Not called for torch Datasets, which give their own samples.
        """
        return data.rows(index)

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """What the model gives in training."""
        return model(batch.inputs)

    def predict(self, model: nn.Module, inputs: Any) -> Any:
        """What the model gives by itself, in validation and use."""
        return model(inputs)

    def metrics(self, output: Any, batch: Batch) -> dict[str, Mean]:
        """Named measures of a batch's output, averaged over all samples."""
        return {}

    def derived(self, averages: Mapping[str, float]) -> dict[str, float]:
        """Named measures computed from an epoch's averages of `loss`, the loss terms and the metrics."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a trial remembers beside its weights."""
        return {}

    def on_action(self, name: str, model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a timeline's action, one of `actions`, changes in the state; called before the step it stands at."""
        return {}

    def trace(self, model: nn.Module) -> dict[str, Tensor]:
        """Small tensors whose way through training is recorded with the per-step series; called without gradients."""
        return {}

    def preview(self, model: nn.Module, data: Data) -> Image | None:
        """A picture of what the model does, for a person to look at; called in evaluation, without gradients."""
        return None

    def sounds(self, model: nn.Module, options: Mapping[str, Any]) -> dict[str, bytes]:
        """What a person would listen to, as WAV files by name; called in evaluation, without gradients.

        `options` is the recipe's `data`.
        """
        return {}

    def apply(
        self, model: nn.Module, options: Mapping[str, Any], source: Path, destination: Path
    ) -> Iterator[tuple[Path, str]]:
        """Use a trained model on the files of `source`; gives each file written and a few words about it.

        `options` is the recipe's `data`; the model is on its device, in evaluation, without gradients. Raises
        `UsageError` for files that cannot be read, before anything is written where it can.
        """
        raise TaskError(f"{type(self).__name__} says nothing about files: it has no `apply`")


def as_batch(items: Any) -> Batch:
    """A collated item of a torch Dataset as a batch: (inputs, targets), or inputs alone."""
    if isinstance(items, Batch):
        return items
    if isinstance(items, Sequence) and not isinstance(items, str) and len(items) == 2:
        return Batch(items[0], items[1])
    return Batch(items)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of a nested value, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [tensor for entry in value for tensor in tensors_in(entry)] if isinstance(value, (tuple, list)) else []


def mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A nested value of the same form, `function` applied to each of its tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: mapped(function, entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        entries = [mapped(function, entry) for entry in value]
        return type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)
    return value


def _moved(value: Any, device: torch.device) -> Any:
    """Tensors within `value`, which may be nested, on `device`."""
    return mapped(lambda tensor: tensor.to(device, non_blocking=True), value)
