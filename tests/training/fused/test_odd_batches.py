"""Batches that differ in more than their numbers: the last may be smaller, measured otherwise, laid out otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from fusing import Group, Regression, alone, recipe_with, trained_in
from odd import assert_trained_as_alone
from torch import Tensor, nn

from tuner.tasks import Batch, Data, Mean, Samples


class Measured(Regression):
    """Of whose six batches of 8 the last has 4 samples."""

    samples = 44

    def __init__(self, measure: Callable[[Tensor, bool], dict[str, Mean]]) -> None:
        self.measure = measure

    def metrics(self, output: Tensor, batch: Batch) -> dict[str, Mean]:
        return self.measure(output, len(output) < 8)


def in_another_order(output: Tensor, last: bool) -> dict[str, Mean]:
    found = {"one": Mean.of(torch.ones_like(output)), "two": Mean.of(2 * torch.ones_like(output))}
    return dict(reversed(found.items())) if last else found


def one_fewer(output: Tensor, last: bool) -> dict[str, Mean]:
    return {"all": Mean.of(output)} | ({} if last else {"top": Mean.of(output.topk(8).values)})


def one_more(output: Tensor, last: bool) -> dict[str, Mean]:
    return {"all": Mean.of(output)} | ({"last": Mean.of(output)} if last else {})


def of_another_type(output: Tensor, last: bool) -> dict[str, Mean]:
    total = (output > 0).sum()
    return {"positive": Mean(total * 0.5 if last else total, len(output))}


@pytest.mark.parametrize("measure", [in_another_order, one_fewer, one_more, of_another_type])
def test_metrics_of_the_last_batch_may_differ(measure: Callable[[Tensor, bool], dict[str, Mean]]) -> None:
    assert_trained_as_alone(lambda: Measured(measure))


class Permuted(Regression):
    """Pictures with the channels last, which `batch` brings to the front without a copy."""

    def data(self, options: Mapping[str, Any]) -> Data:
        found, generator = super().data(options), torch.Generator().manual_seed(1)
        parts = (found.train, found.validation)
        return Data(*(Samples(torch.randn(len(part), 6, 6, 3, generator=generator), part.targets) for part in parts))

    def batch(self, data: Samples, index: Tensor, properties: Mapping[str, Any], generator: torch.Generator) -> Batch:
        rows = data.rows(index)
        return Batch(rows.inputs.permute(0, 3, 1, 2), rows.targets)

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model(inputs.permute(0, 3, 1, 2))  # type: ignore[no-any-return]

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(108, 1), nn.Flatten(0))


def test_batches_lie_alike_whether_members_share_them_or_not() -> None:
    recipe = recipe_with(epochs=2)
    expected, group = alone(Permuted(), recipe), Group(Permuted(), recipe)
    (member,) = group.start(recipe)
    for seeds in ([0] * 4, [0, 1, 2, 3]):  # in the first epoch all have one batch
        others = [recipe.model_copy(update={"seed": 50 + n, "data_seed": seed}) for n, seed in enumerate(seeds)]
        trained_in([[member, *group.start(*others)]])
    assert torch.equal(member.row, expected.row)
