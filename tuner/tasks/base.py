"""Task: what is trained. A user's own task is a file with one subclass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset


class Mean(NamedTuple):
    """A mean as (total, number), so that batches of any size average rightly."""

    total: Tensor
    number: int

    @classmethod
    def of(cls, values: Tensor) -> Mean:
        """The mean of all entries of a tensor of any shape (bool counts as 0 and 1)."""
        return cls(values.detach().sum(dtype=torch.float32), values.numel())


@dataclass(frozen=True)
class Batch:
    """Some samples: `inputs` and `targets` of shape batch x ..., on one device; None where there are no targets."""

    inputs: Any
    targets: Any = None

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        return Batch(_moved(self.inputs, device), _moved(self.targets, device))

    def __len__(self) -> int:
        first = self.inputs
        while isinstance(first, (tuple, list, Mapping)):
            first = next(iter(first.values() if isinstance(first, Mapping) else first))
        return len(first)


@dataclass(frozen=True)
class Samples:
    """All samples as tensors: `inputs` and `targets` of shape samples x ... ."""

    inputs: Tensor
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, index: Tensor) -> Batch:
        """The samples at `index` (batch,), an int64 tensor on the samples' device."""
        return Batch(self.inputs[index], None if self.targets is None else self.targets[index])

    def to(self, device: torch.device) -> Samples:
        """The samples on `device`."""
        return Samples(self.inputs.to(device), None if self.targets is None else self.targets.to(device))

    def nbytes(self) -> int:
        """Bytes of memory they take."""
        return self.inputs.nbytes + (0 if self.targets is None else self.targets.nbytes)


Source = Samples | Dataset[Any]
"""Where batches come from: tensors (kept on the device where they fit) or a torch Dataset of (input, target)."""


@dataclass(frozen=True)
class Data:
    """What a task trains and validates on; `test` is held out and never seen in a search."""

    train: Source
    validation: Source
    test: Source | None = None


class Task(ABC):
    """What is trained: data, model, loss terms and metrics.

    `name` declares a bundled task. `model_options` and `data_options` are the options that `build_model` and
    `data` take, with their defaults: other names in a recipe's `model` and `data` are errors. `fusable` is
    False for models that must train alone.
    """

    name: ClassVar[str] = ""
    model_options: ClassVar[Mapping[str, Any]] = {}
    data_options: ClassVar[Mapping[str, Any]] = {}
    fusable: ClassVar[bool] = True

    @abstractmethod
    def data(self, options: Mapping[str, Any]) -> Data:
        """The data for `options` (the recipe's `data`); must be the same every time it is called."""

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

        `properties` is the recipe's `data`. One task serves all trials at once, so keep nothing of a recipe on
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

    def state(self) -> dict[str, Tensor]:
        """What a trial remembers beside its weights."""
        return {}


def as_batch(items: Any) -> Batch:
    """A collated item of a torch Dataset as a batch: (inputs, targets), or inputs alone."""
    if isinstance(items, Batch):
        return items
    if isinstance(items, Sequence) and not isinstance(items, str) and len(items) == 2:
        return Batch(items[0], items[1])
    return Batch(items)


def _moved(value: Any, device: torch.device) -> Any:
    """Tensors within `value`, which may be nested, on `device`."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _moved(entry, device) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_moved(entry, device) for entry in value)
    return value
