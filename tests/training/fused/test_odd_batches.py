"""Batches, outputs, losses and metrics of all kinds, and data that depend on what they should not."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from fusing import Regression, recipe_with, trainer_of
from odd import Make, Measuring, Tracing, assert_refused, assert_trained_as_alone
from torch import Tensor, nn

from tuner.tasks import Batch, Data, Mean, Samples
from tuner.training.fused.training import FusedTraining


class InMappings(Regression):
    """Inputs by name, some of them whole numbers; no targets; outputs by name."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line, self.table = nn.Linear(4, 1), nn.Embedding(3, 1)

        def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {"y": (self.line(inputs["x"]) + self.table(inputs["kind"])).squeeze(1)}

    def data(self, options: Mapping[str, Any]) -> Data:
        found = super().data(options)
        return Data(*(self.named(part) for part in (found.train, found.validation)))

    def named(self, part: Any) -> Samples:
        return Samples({"x": part.inputs, "kind": torch.arange(len(part)) % 3, "y": part.targets})

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        return self.Net()

    def losses(self, output: Any, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        assert batch.targets is None
        return super().losses(output["y"], Batch(batch.inputs, batch.inputs["y"]), state)


class Output(NamedTuple):
    value: Tensor
    spare: None = None


class OfWholeBatches(Regression):
    """Terms of a whole batch, an output that is a tuple, and metrics of whole numbers and of no."""

    def forward(self, model: nn.Module, batch: Batch) -> Output:
        return Output(model(batch.inputs))

    def predict(self, model: nn.Module, inputs: Any) -> Output:
        return Output(model(inputs))

    def losses(self, output: Any, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: term.mean() for name, term in super().losses(output.value, batch, state).items()}

    def metrics(self, output: Any, batch: Batch) -> dict[str, Mean]:
        high = output.value > batch.targets
        return {
            "share": Mean(high.sum(), len(high)),
            "among": Mean(high.sum(), (output.value > 0).sum()),
            "any": Mean(high.any(), 1),
            "constant": Mean(torch.tensor(2), torch.tensor(1)),
            "never": Mean.of(output.value, where=output.value > 1e9),
        }


class InAnyOrder(Regression):
    """Its terms come in another order when there are many samples, as in validation."""

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = super().losses(output, batch, state)
        return found if len(output) < 20 else dict(reversed(found.items()))


class DrawnGlobally(Regression):
    """Its batches draw from every generator there is."""

    def batch(self, data: Samples, index: Tensor, properties: Mapping[str, Any], generator: torch.Generator) -> Batch:
        rows = data.rows(index)
        noise = torch.randn(rows.inputs.shape) + random.random() + float(np.random.rand())
        return Batch(rows.inputs + 0.3 * noise * torch.rand((), generator=generator), rows.targets)


class OfAnyLength(Regression):
    """Crops of a random length, which trials with other seeds have otherwise."""

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 3, 2), nn.AdaptiveAvgPool1d(1), Last())

    def batch(self, data: Samples, index: Tensor, properties: Mapping[str, Any], generator: torch.Generator) -> Batch:
        rows, length = data.rows(index), int(torch.randint(2, 5, (), generator=generator))
        return Batch(rows.inputs[:, :length], rows.targets)


class Last(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze(2).sum(1)


class NumberInBatch(Regression):
    """A Python number beside the tensors, another in each batch."""

    def batch(self, data: Samples, index: Tensor, properties: Mapping[str, Any], generator: torch.Generator) -> Batch:
        rows = data.rows(index)
        return Batch({"x": rows.inputs, "scale": float(torch.rand((), generator=generator))}, rows.targets)

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        return model(batch.inputs["x"]) * batch.inputs["scale"]


class DataByProperty(Regression):
    """Its property shapes the data too."""

    data_options = {"noise": 0.0}
    properties = ("noise",)

    def data(self, options: Mapping[str, Any]) -> Data:
        found = super().data(options)
        return Data(Samples(found.train.inputs + options["noise"], found.train.targets), found.validation)  # type: ignore[union-attr]


TRAINED: dict[str, Make] = {
    "no fault": Regression,
    "mappings": InMappings,
    "whole batches": OfWholeBatches,
    "terms in any order": InAnyOrder,
    "batches from global generators": DrawnGlobally,
    "batches of any length": OfAnyLength,
    "data by a property": DataByProperty,
    "a parameter traced": lambda: Tracing(lambda model: model[0].weight),
}

REFUSED: dict[str, tuple[Make, str]] = {
    "a number in the batch": (NumberInBatch, "Error"),
    "a metric in NumPy": (
        lambda: Measuring(lambda y, target: Mean(torch.tensor(float(y.detach().numpy().sum())), 1)),
        "RuntimeError",
    ),
    "a metric of numbers": (lambda: Measuring(lambda y, target: Mean(torch.tensor(y.sum().item()), 1)), r"\.item\(\)"),
    "a trace of numbers": (lambda: Tracing(lambda model: torch.tensor(model[0].weight.sum().item())), r"\.item\(\)"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_trained_as_alone(name: str) -> None:
    assert_trained_as_alone(TRAINED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence(name: str) -> None:
    assert_refused(*REFUSED[name])


def test_data_that_cannot_be_had_is_the_reason() -> None:
    class Nowhere(Regression):
        data_options = {"there": True}

        def data(self, options: Mapping[str, Any]) -> Data:
            if not options["there"]:
                raise FileNotFoundError("no such folder")
            return super().data(options)

    recipe = recipe_with(data={"there": True})
    training = FusedTraining(trainer_of(Nowhere(), recipe))
    assert training.why_not(recipe_with(data={"there": False})) == "no such folder"
    assert training.why_not(recipe) == ""
