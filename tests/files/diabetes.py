"""A user's task in 40 lines: regression on scikit-learn's diabetes data."""

import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import nn

from tuner.tasks import Data, Mean, Samples, Task


class Diabetes(Task):
    model_options = {"hidden": 32, "dropout": 0.0}

    def data(self, options):
        x, y = load_diabetes(return_X_y=True)
        y = (y - y.mean()) / y.std()
        parts = train_test_split(x, y, test_size=0.25, random_state=0)
        x_train, x_val, y_train, y_val = (torch.tensor(part, dtype=torch.float32) for part in parts)
        return Data(train=Samples(x_train, y_train), validation=Samples(x_val, y_val))

    def build_model(self, options):
        return nn.Sequential(
            nn.Linear(10, options["hidden"]),
            nn.ReLU(),
            nn.Dropout(options["dropout"]),
            nn.Linear(options["hidden"], 1),
            nn.Flatten(0),
        )

    def losses(self, output, batch, state):
        return {"mse": (output - batch.targets) ** 2}

    def metrics(self, output, batch):
        return {"mae": Mean.of((output - batch.targets).abs())}
