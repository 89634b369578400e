"""A task of no weight: a line through 64 points, with ways to go wrong."""

import os

import torch
from torch import nn

from tuner.tasks import Data, Mean, Samples, Task


class Tiny(Task):
    model_options = {"hidden": 4, "fault": "none", "dropout": 0.0, "norm": False}
    data_options = {"samples": 64}

    def data(self, options):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(options["samples"], 3, generator=generator)
        y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * torch.randn(options["samples"], generator=generator)
        half = options["samples"] // 2
        return Data(train=Samples(x[:half], y[:half]), validation=Samples(x[half:], y[half:]))

    def build_model(self, options):
        if log := os.environ.get("TINY_LOG"):
            with open(log, "a") as file:
                file.write("built\n")
        norm = nn.BatchNorm1d(options["hidden"]) if options["norm"] else nn.Identity()
        model = nn.Sequential(
            nn.Linear(3, options["hidden"]),
            norm,
            nn.Tanh(),
            nn.Dropout(options["dropout"]),
            nn.Linear(options["hidden"], 1),
        )
        model.fault = options["fault"]
        return model

    def forward(self, model, batch):
        if model.fault == "error":
            raise RuntimeError("this model never works")
        if model.fault == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        output = model(batch.inputs).squeeze(1)
        return output * float("nan") if model.fault == "nan" else output

    def predict(self, model, inputs):
        return model(inputs).squeeze(1)

    def losses(self, output, batch, state):
        error = output - batch.targets
        return {"mse": error**2, "l1": error.abs()}

    def metrics(self, output, batch):
        return {"close": Mean.of((output - batch.targets).abs() < 0.5)}
