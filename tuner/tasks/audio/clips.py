"""Clips: pairs cut into long segments that training draws clips from, and into fixed clips to validate on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.tasks.audio.pairs import Pair
from tuner.tasks.audio.sound_files import Signal
from tuner.tasks.audio.unet import STRIDE
from tuner.tasks.base import Batch, Samples


def segments(pairs: Sequence[Pair], longest: int, clip_length: int) -> Samples:
    """All of every pair, at the net's level, in as few segments as have at most `longest` samples.

    Where a pair is no whole number of segments long, they overlap. `inputs` is the noisy signal (segments x 1 x time);
    `targets` are the `clean` one alike, the level `snr` in dB (segments,) and the `length` in samples (segments,),
    behind which both signals are 0. Time is at least `clip_length`.
    """
    longest = max(longest, clip_length)
    cuts = [(pair, start) for pair in pairs for start in _covering(len(pair.clean), longest)]
    lengths = [min(longest, len(pair.clean)) for pair, _ in cuts]
    time = -(-max(clip_length, *lengths) // STRIDE) * STRIDE
    return _stacked(cuts, lengths, time, {"length": torch.tensor(lengths)})


def fixed_clips(pairs: Sequence[Pair], clip_length: int, most: int) -> Samples:
    """Clips of every pair, evenly spaced, as many as cover it but at most `most`; a short one ends in zeros.

    `inputs` and `targets` are as in `segments`, all of `clip_length`, without `length`.
    """
    cuts = [(pair, start) for pair in pairs for start in _spaced(len(pair.clean), clip_length, most)]
    return _stacked(cuts, [clip_length] * len(cuts), clip_length, {})


def random_clips(data: Samples, index: Tensor, clip_length: int, generator: torch.Generator) -> Batch:
    """A clip from each of the segments at `index` (batch,), its place drawn evenly from `generator`."""
    drawn = torch.rand(len(index), generator=generator).to(data.device)
    room = (data.targets["length"][index] - clip_length).clamp_min(0)
    start = torch.minimum((drawn * (room + 1)).long(), room)
    rows, places = index[:, None], start[:, None] + torch.arange(clip_length, device=data.device)
    return Batch(
        data.inputs[rows, 0, places][:, None],
        {"clean": data.targets["clean"][rows, 0, places][:, None], "snr": data.targets["snr"][index]},
    )


def _covering(length: int, segment: int) -> NDArray[np.int64]:
    """Where segments start that together cover a signal."""
    count = -(-length // segment)
    return np.linspace(0, max(0, length - segment), count).round().astype(np.int64)


def _spaced(length: int, clip: int, most: int) -> NDArray[np.int64]:
    """Where clips start: in the middle of equal parts, since recordings often begin and end in silence."""
    count = min(most, -(-length // clip))
    return (max(0, length - clip) * (np.arange(count) + 0.5) / count).round().astype(np.int64)


def _stacked(cuts: Sequence[tuple[Pair, int]], lengths: Sequence[int], time: int, more: dict[str, Tensor]) -> Samples:
    """Stretches of pairs as tensors of rows x 1 x `time`."""
    noisy, clean = torch.zeros(len(cuts), 1, time), torch.zeros(len(cuts), 1, time)
    for row, ((pair, start), length) in enumerate(zip(cuts, lengths, strict=True)):
        for tensor, signal in ((noisy, pair.noisy), (clean, pair.clean)):
            stretch = _tensor(signal[start : start + length] * pair.gain)
            tensor[row, 0, : len(stretch)] = stretch
    levels = torch.tensor([pair.snr for pair, _ in cuts], dtype=torch.float32)
    return Samples(noisy, {"clean": clean, "snr": levels, **more})


def _tensor(signal: Signal) -> Tensor:
    return torch.from_numpy(signal.astype(np.float32))
