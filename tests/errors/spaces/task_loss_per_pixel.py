"""A loss of the wrong shape."""

import torch
from torch import nn

from tuner.tasks import Data, Samples, Task


class PerPixel(Task):
    def data(self, options):
        samples = Samples(torch.zeros(8, 2), torch.zeros(8))
        return Data(train=samples, validation=samples)

    def build_model(self, options):
        return nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))

    def losses(self, output, batch, state):
        return {"mse": torch.zeros(4, 2)}
