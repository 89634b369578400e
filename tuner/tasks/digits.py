"""digits: handwritten digits read by a small recurrent convolutional net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.errors import did_you_mean
from tuner.tasks.base import Batch, Data, Mean, Samples, Task

RECURRENCES = ("full", "depthwise", "none")


class Digits(Task):
    """The 1,797 handwritten digits of scikit-learn (8 x 8 pixels, 10 classes), split 80/20 once and for all.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), test part.
    """

    name: ClassVar[str] = "digits"
    model_options: ClassVar[Mapping[str, Any]] = {
        "channels": 16,
        "timesteps": 4,
        "tau": 2.0,
        "recurrence": "full",
        "dropout": 0.0,
    }

    def data(self, options: Mapping[str, Any]) -> Data:
        """Stratified by digit: 1,437 images to train on, 360 to validate on; pixels in [0, 1]."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        pixels, labels = load_digits(return_X_y=True)
        split = train_test_split(pixels, labels, test_size=0.2, stratify=labels, random_state=0)
        train_x, validation_x, train_y, validation_y = split
        return Data(train=_samples(train_x, train_y), validation=_samples(validation_x, validation_y))

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        """A `RecurrentConvNet`; raises `ValueError` for options out of range."""
        return RecurrentConvNet(**options)

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of the ten classes in nats, per sample."""
        return {"cross_entropy": F.cross_entropy(output, batch.targets, reduction="none")}

    def metrics(self, output: Tensor, batch: Batch) -> dict[str, Mean]:
        """`accuracy`: the share of digits read rightly."""
        return {"accuracy": Mean.of(output.argmax(dim=1) == batch.targets)}


def _samples(pixels: Any, labels: Any) -> Samples:
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return Samples(images, torch.tensor(labels, dtype=torch.int64))


class RecurrentConvNet(nn.Module):
    """A rate network on the image plane: drive = conv(x) + recurrence(h), h <- relu(h + dt/tau (drive - h)).

    `timesteps` Euler steps of dt = 1 from h = 0, then 2 x 2 average pooling, dropout and a linear readout.
    `recurrence` is a 3 x 3 convolution over all channels (`full`), one per channel (`depthwise`), or `none`.
    """

    def __init__(self, channels: int, timesteps: int, tau: float, recurrence: str, dropout: float) -> None:
        super().__init__()
        if channels < 1 or timesteps < 1:
            raise ValueError(f"channels and timesteps must be at least 1, not {channels} and {timesteps}")
        if tau < 1:
            raise ValueError(f"tau must be at least 1 (the Euler step is 1), not {tau}")
        if recurrence not in RECURRENCES:
            hint = did_you_mean(recurrence, RECURRENCES)
            raise ValueError(f"there is no recurrence '{recurrence}'. {hint}")
        self.timesteps, self.tau = timesteps, tau
        self.input = nn.Conv2d(1, channels, kernel_size=3, padding=1)
        groups = channels if recurrence == "depthwise" else 1
        self.recurrence = (
            None
            if recurrence == "none"
            else nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=groups, bias=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(channels * 16, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch x 10) of images (batch x 1 x 8 x 8)."""
        feedforward = self.input(images)
        rate = torch.zeros_like(feedforward)
        for _ in range(self.timesteps):
            drive = feedforward if self.recurrence is None else feedforward + self.recurrence(rate)
            rate = F.relu(rate + (drive - rate) / self.tau)
        pooled: Tensor = F.avg_pool2d(rate, 2).flatten(1)
        logits: Tensor = self.readout(self.dropout(pooled))
        return logits
