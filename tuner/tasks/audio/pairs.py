"""Pairs of a clean signal and the same with noise: made on the spot, brought to one level, split by clean signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from tuner.seeds import seed_for
from tuner.tasks.audio.sound_files import Signal
from tuner.tasks.audio.voices import make_voice

LEVEL = 0.35
"""The RMS that every noisy signal is brought to, whatever its own."""

MADE_SNRS = (0.0, 5.0, 10.0, 15.0, 20.0)
"""Signal-to-noise ratios in dB at which every made voice is given."""


@dataclass(frozen=True)
class Pair:
    """A clean and a noisy signal, both (samples,), and the factor `gain` that is to bring both to the net's level.

    `source` says which clean signal it is, `snr` how strong the noise is, in dB.
    """

    source: str
    clean: Signal
    noisy: Signal
    snr: float
    gain: float = 1.0


def gain_of(noisy: Signal) -> float:
    """The factor that brings a noisy signal to an RMS of `LEVEL`; 1 for silence."""
    rms = float(np.sqrt(np.mean(noisy**2, dtype=np.float64)))
    return LEVEL / rms if rms > 0 else 1.0


def made_pairs(sources: int, seconds: float, sample_rate: int, first: int = 0) -> list[Pair]:
    """`sources` voices from number `first` on in white noise, each at all of `MADE_SNRS`; the same every time."""
    pairs = []
    for number in range(first, first + sources):
        clean = make_voice(number, round(seconds * sample_rate), sample_rate)
        for snr in MADE_SNRS:
            random = np.random.default_rng(seed_for("noise", number, snr))
            noisy = with_noise(clean, snr, random)
            pairs.append(Pair(str(number), clean, noisy, snr, gain_of(noisy)))
    return pairs


def with_noise(clean: Signal, snr: float, random: Generator) -> Signal:
    """The signal with white noise so strong that 10 log10(sum clean^2 / sum noise^2) over all of it is `snr` dB."""
    noise = random.standard_normal(len(clean))
    strength = np.sqrt(np.sum(clean**2) / np.sum(noise**2) / 10 ** (snr / 10))
    return clean + float(strength) * noise


def split_by_source(pairs: Sequence[Pair], validation_share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """The pairs to train on and those to validate on: no clean signal is in both.

    `validation_share` of the clean signals, at least one and not all, are drawn to validate on. Needs two.
    """
    sources = sorted({pair.source for pair in pairs})
    assert len(sources) > 1
    count = min(max(1, round(validation_share * len(sources))), len(sources) - 1)
    drawn = np.random.default_rng(seed).permutation(len(sources))[:count]
    held_out = {sources[i] for i in drawn}
    train = [pair for pair in pairs if pair.source not in held_out]
    return train, [pair for pair in pairs if pair.source in held_out]
