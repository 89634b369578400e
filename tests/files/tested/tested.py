"""The tiny task with a test split, which says in a file that somebody looked at it."""

import os

import torch
from tiny import Tiny

from tuner.tasks import Samples


class Tested(Tiny):
    def test_data(self, options):
        if log := os.environ.get("TESTED_LOG"):
            with open(log, "a") as file:
                file.write("looked\n")
        generator = torch.Generator().manual_seed(7)
        x = torch.randn(40, 3, generator=generator)
        return Samples(x, x @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * torch.randn(40, generator=generator))
