"""The data is not there."""

import torch
from torch import nn

from tuner.tasks import Data, Samples, Task


class NoData(Task):
    def data(self, options):
        open("data/train.csv").close()
        samples = Samples(torch.zeros(8, 2), torch.zeros(8))
        return Data(train=samples, validation=samples)

    def build_model(self, options):
        return nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))

    def losses(self, output, batch, state):
        return {"mse": (output - batch.targets) ** 2}
