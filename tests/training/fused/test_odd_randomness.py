"""Random numbers other than dropout's, which trials of a group cannot draw each for itself."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from odd import Make, Measuring, Predicting, Tracing, Weighing, With, assert_refused, doing, small_net
from torch import nn

from tuner.tasks import Mean

REFUSED: dict[str, tuple[Make, str]] = {
    "torch's generator": (lambda: doing(lambda model, x: x + torch.rand(4)), "random"),
    "torch's generator, in place": (lambda: doing(lambda model, x: x + torch.empty(4).normal_()), "random"),
    "a generator's own": (
        lambda: doing(lambda model, x: x + torch.rand(4, generator=torch.Generator().manual_seed(1))),
        "random",
    ),
    "randomized rectifiers": (lambda: With(lambda: small_net(nn.RReLU())), "random"),
    "Python's": (lambda: doing(lambda model, x: x * random.choice([0.5, 2.0])), "random numbers"),
    "NumPy's": (lambda: doing(lambda model, x: x * np.random.rand()), "random numbers"),
    "Python's beside dropout": (
        lambda: doing(lambda model, x: torch.dropout(x, 0.1, True) * random.random()),
        "random numbers",
    ),
    "Python's in the losses": (lambda: Weighing(lambda y: y * random.random()), "random numbers"),
    "Python's in predictions": (lambda: Predicting(lambda y: y * random.random()), "random numbers"),
    "Python's in metrics": (lambda: Measuring(lambda y, target: Mean.of(y * random.random())), "random numbers"),
    "Python's in traces": (lambda: Tracing(lambda model: model[0].weight * random.random()), "random numbers"),
    "torch's in predictions": (lambda: Predicting(lambda y: y + torch.rand(1)), "random"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence(name: str) -> None:
    assert_refused(*REFUSED[name])
