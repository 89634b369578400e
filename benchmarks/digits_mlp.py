"""The digits read by a small plain net: a task that `tuner quick benchmarks/digits_mlp.py` searches, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from tuner.tasks.digits import Digits


class DigitsMLP(Digits):
    """64 pixels - `hidden` - `hidden` - 10 classes, with ReLU between."""

    name: ClassVar[str] = ""
    model_options: ClassVar[Mapping[str, Any]] = {"hidden": 64}

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        hidden = options["hidden"]
        first, second, last = nn.Linear(64, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 10)
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), last)
