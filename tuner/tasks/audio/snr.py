"""Signal-to-noise ratios of clips, and how much a net improves them."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.tasks.audio.pairs import LEVEL
from tuner.tasks.base import Mean

SNRS = (-10, -5, 0, 5, 10, 15, 20, 25, 30)
"""Levels in dB that are told apart; others count towards the nearest."""

SILENCE = 1e-3 * LEVEL**2
"""The mean square below which a clean clip counts as silent: 30 dB under its file's. It has no SNR to speak of."""

FAINTEST = 1e-10
"""Errors below this share of the signal's energy count as this: SNRs end at 100 dB."""


def snr_of(clean: Tensor, other: Tensor) -> Tensor:
    """10 log10(sum clean^2 / sum (other - clean)^2) of each signal (batch x 1 x time), in dB (batch,); at most 100."""
    energy = clean.square().sum(dim=(1, 2)).clamp_min(torch.finfo(clean.dtype).tiny)
    error = (other - clean).square().sum(dim=(1, 2))
    return 10 * torch.log10(energy / torch.maximum(error, FAINTEST * energy))


def improvements(clean: Tensor, noisy: Tensor, output: Tensor, level: Tensor) -> dict[str, Mean]:
    """`snr_improvement` in dB, the output's SNR minus the noisy input's, over clips that are not silent.

    Also for each of `SNRS` by itself: `snr_improvement_at_0db`, `..._at_minus_5db`. Signals are batch x 1 x time,
    `level` (batch,) is each clip's input SNR in dB as its file says.
    """
    gained = snr_of(clean, output) - snr_of(clean, noisy)
    audible = clean.square().mean(dim=(1, 2)) > SILENCE
    nearest = (level[:, None] - torch.tensor(SNRS, device=level.device)).abs().argmin(dim=1)
    means = {"snr_improvement": Mean.of(gained, where=audible)}
    for number, snr in enumerate(SNRS):
        means[f"snr_improvement_at_{_spoken(snr)}"] = Mean.of(gained, where=audible & (nearest == number))
    return means


def _spoken(snr: int) -> str:
    return f"{snr}db" if snr >= 0 else f"minus_{-snr}db"
