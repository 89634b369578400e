"""Long signals through a net in overlapping windows, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.tasks.audio.unet import REACH, STRIDE

WINDOW, OVERLAP = 1024 * STRIDE, 64 * STRIDE
"""Samples of a window, and of its overlap with the next: more than twice the net's reach."""


def in_windows(net: Callable[[Tensor], Tensor], signal: Tensor, window: int = WINDOW, overlap: int = OVERLAP) -> Tensor:
    """`net` (batch x 1 x time to the same) over a signal (time,) of any length, window by window; gives (time,).

    Near its ends a window's output feels that nothing lies beyond. So windows overlap, and where they do the output
    fades from one to the next, away from both ends by the net's reach: the result is that of the whole signal at once,
    but for rounding. `window` and `overlap` are multiples of 16.
    """
    assert window % STRIDE == overlap % STRIDE == 0 and 2 * REACH < overlap <= window // 2
    whole = F.pad(signal, (0, -len(signal) % STRIDE))
    if len(whole) <= window:
        return net(whole[None, None])[0, 0, : len(signal)]
    result = torch.zeros_like(whole)
    rise = _rise(overlap).to(signal)
    for start in range(0, len(whole) - overlap, window - overlap):
        part = net(whole[None, None, start : start + window])[0, 0].clone()
        if start > 0:
            part[:overlap] *= rise
        if start + window < len(whole):
            part[-overlap:] *= 1 - rise
        result[start : start + window] += part
    return result[: len(signal)]


def _rise(overlap: int) -> Tensor:
    """From 0 to 1 over an overlap (overlap,), both kept for as long as the net reaches."""
    steps = torch.arange(overlap, dtype=torch.float64) - REACH
    return (steps / (overlap - 2 * REACH)).clamp(0, 1)
