"""A task to be killed in: its models train in no time, and some never do."""

from __future__ import annotations

import itertools
import os

import torch
from torch import nn

from tuner.tasks import Data, Mean, Samples, Task

STEPS = itertools.count(1)
"""Steps that have looked whether to send a signal."""


def signal_itself() -> None:
    """Send this process a signal at one of its steps, if `CRASH_SIGNAL` says so: `2@40` is SIGINT at the 40th."""
    if wanted := os.environ.get("CRASH_SIGNAL"):
        number, step = wanted.split("@")
        if next(STEPS) == int(step):
            os.kill(os.getpid(), int(number))


class Crash(Task):
    """A line through 32 points. `luck` 0 raises an error, 1 diverges; dropout and batch norm have state to lose."""

    model_options = {"hidden": 4, "luck": 5}

    def data(self, options):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(48, 3, generator=generator)
        y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * torch.randn(48, generator=generator)
        return Data(train=Samples(x[:32], y[:32]), validation=Samples(x[32:], y[32:]))

    def build_model(self, options):
        hidden = options["hidden"]
        model = nn.Sequential(nn.Linear(3, hidden), nn.BatchNorm1d(hidden), nn.Dropout(0.1), nn.Linear(hidden, 1))
        model.luck = options["luck"]
        return model

    def forward(self, model, batch):
        signal_itself()
        if model.luck == 0:
            raise RuntimeError("this model has no luck")
        output = model(batch.inputs).squeeze(1)
        return output * float("nan") if model.luck == 1 else output

    def predict(self, model, inputs):
        return model(inputs).squeeze(1)

    def losses(self, output, batch, state):
        return {"mse": (output - batch.targets) ** 2}

    def metrics(self, output, batch):
        return {"close": Mean.of((output - batch.targets).abs() < 0.5)}
