"""A recipe's precision: what it changes, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from test_plain import recipe, tiny

from tuner.training.fused.training import FusedTraining
from tuner.training.run import Goal
from tuner.training.trainer import Trainer


def losses(precision: str, fused: bool) -> list[float]:
    """The validation losses of three epochs."""
    trainer = Trainer(tiny(), Goal("val_mse"), ("mse", "l1"), torch.device("cpu"))
    values = recipe(precision=precision, model={"hidden": 32})
    run = FusedTraining(trainer).start(values) if fused else trainer.start(values)
    while not run.done:
        run.epoch()
    assert all(tensor.dtype == torch.float32 for tensor in run.kept_weights().values())
    return [record.val_loss for record in run.records]


@pytest.mark.parametrize("fused", [False, True])
def test_bf16_trains_nearly_alike_and_tf32_only_matters_on_a_gpu(fused: bool) -> None:
    exact = losses("float32", fused)
    assert losses("tf32", fused) == exact
    rough = losses("bf16", fused)
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.05)
