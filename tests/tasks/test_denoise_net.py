"""The denoising U-Net: its architecture, its equations written out, its reach, and long signals in windows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.tasks.audio.unet import REACH, UNet
from tuner.tasks.audio.windows import in_windows
from tuner.tasks.denoise import Denoise


def awake(channels: int = 3, residual: bool = True) -> UNet:
    """A net in evaluation whose every layer does something, the last one too."""
    torch.manual_seed(0)
    net = UNet(channels, residual)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.momentum = None  # average of all it sees
    nn.init.normal_(net.readout.weight, std=0.5)
    for _ in range(3):
        net(torch.randn(4, 1, 1024))
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("channels", [4, 16])
def test_parameters_are_those_of_the_architecture(channels: int) -> None:
    c, count = channels, 0
    for before, width, kernel in (
        *((1, c, 15), (c, 2 * c, 15), (2 * c, 4 * c, 15), (4 * c, 8 * c, 15)),  # encoder
        (8 * c, 16 * c, 5),  # bottleneck
        *((16 * c, 8 * c, 5), (8 * c, 4 * c, 5), (4 * c, 2 * c, 5), (2 * c, c, 5)),  # decoder, skips put beside
    ):
        count += before * width * kernel + width * width * kernel + 2 * 2 * width  # two BatchNorms
    count += sum(2 * width * width * 2 + width for width in (8 * c, 4 * c, 2 * c, c))  # transposed convolutions
    count += c + 1
    net = Denoise().build_model({"channels": channels, "residual": True})
    assert sum(parameter.numel() for parameter in net.parameters()) == count
    if channels == 16:
        assert count == pytest.approx(1.4e6, rel=0.01)


@pytest.mark.parametrize("residual", [True, False])
def test_net_follows_its_equations(residual: bool) -> None:
    net, weights = awake(residual=residual), awake(residual=residual).state_dict()

    def block(name: str, x: Tensor, kernel: int) -> Tensor:
        for conv, norm in ((0, 1), (3, 4)):
            x = F.conv1d(x, weights[f"{name}.{conv}.weight"], padding=(kernel - 1) // 2)
            mean, variance = weights[f"{name}.{norm}.running_mean"], weights[f"{name}.{norm}.running_var"]
            scale = weights[f"{name}.{norm}.weight"] / torch.sqrt(variance + 1e-5)
            x = (x - mean[:, None]) * scale[:, None] + weights[f"{name}.{norm}.bias"][:, None]
            x = torch.clamp(x, min=0)
        return x

    x = torch.randn(2, 1, 64)
    levels = [block("encoder.0", x, 15)]
    for level in (1, 2, 3):
        halved = levels[-1].reshape(2, levels[-1].shape[1], -1, 2).amax(dim=3)
        levels.append(block(f"encoder.{level}", halved, 15))
    hidden = block("bottleneck", levels[-1].reshape(2, levels[-1].shape[1], -1, 2).amax(dim=3), 5)
    for number, skip in enumerate(reversed(levels)):
        doubled = torch.einsum("bit,iok->botk", hidden, weights[f"up.{number}.weight"]).flatten(2)
        doubled = doubled + weights[f"up.{number}.bias"][:, None]
        hidden = block(f"decoder.{number}", torch.cat([skip, doubled], dim=1), 5)
    predicted = torch.einsum("bit,oik->bot", hidden, weights["readout.weight"]) + weights["readout.bias"]
    torch.testing.assert_close(net(x), x - predicted if residual else predicted)


@pytest.mark.parametrize("time", [16, 48, 512])
def test_output_has_the_shape_of_the_input(time: int) -> None:
    assert awake()(torch.randn(2, 1, time)).shape == (2, 1, time)


def test_time_that_cannot_be_halved_four_times_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16 samples, not 100"):
        awake()(torch.randn(1, 1, 100))
    with pytest.raises(ValueError, match="channels"):
        Denoise().build_model({"channels": 0, "residual": True})


def test_a_fresh_residual_net_gives_its_input() -> None:
    x = torch.randn(3, 1, 256)
    assert torch.equal(UNet(4, residual=True)(x), x)
    assert not torch.allclose(UNet(4, residual=False)(x), x, atol=0.1)


def test_a_shift_by_16_samples_shifts_the_output() -> None:
    net, x = awake().double(), torch.randn(1, 1, 2048, dtype=torch.float64)
    inner = slice(REACH + 64, 2048 - REACH - 64)  # what lies around the seam is new to its neighbours
    for shift in (16, 64):
        moved = net(x.roll(shift, dims=2)).roll(-shift, dims=2)
        torch.testing.assert_close(moved[..., inner], net(x)[..., inner])


@pytest.mark.parametrize("place", [1024, 1031, 1039])
def test_nothing_farther_than_its_reach_changes_an_output(place: int) -> None:
    net, x = awake().double(), torch.randn(1, 1, 2048, dtype=torch.float64)
    changed = x.clone()
    changed[0, 0, place] += 100
    where = (net(changed) != net(x))[0, 0].nonzero().flatten()
    assert (where - place).abs().max() <= REACH
    assert (where - place).abs().max() > REACH // 2


@given(samples=st.integers(1, 9000), seed=st.integers(0, 2**16))
@settings(deadline=None, max_examples=15)
def test_windows_give_what_the_whole_signal_gives(samples: int, seed: int) -> None:
    net, signal = awake(), torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    padded = F.pad(signal, (0, -samples % 16))
    whole = net(padded[None, None])[0, 0, :samples]
    for window in (2048, 4096):
        torch.testing.assert_close(in_windows(net, signal, window, 1024), whole, rtol=1e-4, atol=1e-5)
