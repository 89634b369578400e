"""The digits task: its net against the equations written out, and its data."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tuner.tasks import Samples
from tuner.tasks.digits import Digits, RecurrentConvNet


@pytest.mark.parametrize("recurrence", ["full", "depthwise", "none"])
def test_net_follows_its_equations(recurrence: str) -> None:
    torch.manual_seed(0)
    net = RecurrentConvNet(channels=4, timesteps=3, tau=2.5, recurrence=recurrence, dropout=0.0)
    x, h = torch.rand(5, 1, 8, 8), torch.zeros(5, 4, 8, 8)
    for _ in range(3):
        drive = F.conv2d(x, net.input.weight, net.input.bias, padding=1)
        if recurrence != "none":
            groups = 4 if recurrence == "depthwise" else 1
            drive = drive + F.conv2d(h, net.recurrence.weight, padding=1, groups=groups)
        h = torch.clamp(h + (1.0 / 2.5) * (drive - h), min=0)
    pooled = h.reshape(5, 4, 4, 2, 4, 2).mean(dim=(3, 5)).flatten(1)
    torch.testing.assert_close(net(x), pooled @ net.readout.weight.T + net.readout.bias)


def test_data_is_the_stratified_split_of_1797_digits() -> None:
    data = Digits().data({})
    assert isinstance(data.test, Samples)
    assert (len(data.train), len(data.validation), len(data.test)) == (1077, 360, 360)
    for part in (data.train, data.validation, data.test):
        shares = torch.bincount(part.targets, minlength=10) / len(part)
        assert shares.min() > 0.09
        assert shares.max() < 0.11
        assert part.inputs.min() == 0
        assert part.inputs.max() == 1


@pytest.mark.parametrize("options", [{"tau": 0.5}, {"channels": 0}, {"timesteps": 0}, {"recurrence": "fully"}])
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Digits().build_model({**Digits.model_options, **options})
