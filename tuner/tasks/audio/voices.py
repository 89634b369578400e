"""Speech-like signals made on the spot: a harmonic source through formants, in syllables with pauses.

The source-filter model of voiced speech: G. Fant, Acoustic Theory of Speech Production (1960); formants as
second-order resonances: D. H. Klatt, J. Acoust. Soc. Am. 67, 971 (1980).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tuner.seeds import seed_for

Array = NDArray[np.float64]

VOWELS = (
    (730, 1090, 2440),
    (530, 1840, 2480),
    (270, 2290, 3010),
    (570, 840, 2410),
    (300, 870, 2240),
    (490, 1350, 1690),
)
"""First three formants in Hz of a man's vowels; G. E. Peterson, H. L. Barney, J. Acoust. Soc. Am. 24, 175 (1952)."""

BANDWIDTHS = (70.0, 100.0, 140.0)
"""Widths of the three formants in Hz."""

CONTROL_SECONDS = 0.005
"""Pitch, formants and loudness move slowly: they are computed this often, and interpolated."""


@dataclass(frozen=True)
class Syllables:
    """What a voice says, one entry a syllable: start and length in s, loudness, pitch in semitones, vowel."""

    starts: Array
    lengths: Array
    loudness: Array
    semitones: Array
    vowels: NDArray[np.int64]


def make_voice(number: int, samples: int, sample_rate: int, seed: int = 0) -> Array:
    """Voice `number`: a signal of (samples,) with an RMS of 1, the same every time for the same arguments."""
    random = np.random.default_rng(seed_for("voice", seed, number))
    seconds = samples / sample_rate
    base = float(np.exp(random.uniform(np.log(90), np.log(240))))
    tract = random.uniform(0.95, 1.05) * (base / 120) ** 0.2  # high voices have short vocal tracts
    spoken = _syllables(random, seconds)
    times = np.arange(0, seconds + 2 * CONTROL_SECONDS, CONTROL_SECONDS)
    pitch = base * 2 ** (_melody(random, spoken, times) / 12)
    formants = tract * _track(spoken, np.array(VOWELS, dtype=float)[spoken.vowels], times)
    gains = _gains(pitch, formants, sample_rate) * _loudness(spoken, times)
    signal = _harmonics(random, times, pitch, gains, samples, sample_rate)
    return np.asarray(signal / np.sqrt(np.mean(signal**2)))


def _syllables(random: Generator, seconds: float) -> Syllables:
    """Syllables of 0.12 to 0.30 s, short gaps between them, and now and then a pause."""
    count = int(seconds / 0.1) + 2
    lengths = random.uniform(0.12, 0.30, count)
    pauses = np.where(random.random(count) < 0.15, random.uniform(0.1, 0.2, count), random.uniform(0.0, 0.03, count))
    starts = np.cumsum(lengths + pauses) - lengths - random.uniform(0, 0.1)
    return Syllables(
        starts,
        lengths,
        loudness=10 ** (random.uniform(-8, 0, count) / 20),
        semitones=random.uniform(-3, 3, count),
        vowels=random.integers(len(VOWELS), size=count),
    )


def _melody(random: Generator, spoken: Syllables, times: Array) -> Array:
    """Pitch in semitones over the voice's own (times,): an accent a syllable, a slow fall, a little unsteadiness."""
    steps = random.standard_normal(len(times))
    unsteady = np.convolve(steps, np.hanning(9) / np.hanning(9).sum(), mode="same")
    middle = spoken.starts + spoken.lengths / 2
    accents = np.asarray(np.interp(times, middle, spoken.semitones))
    return accents - 1.5 * (times % 2.0) + 0.2 * unsteady


def _track(spoken: Syllables, targets: Array, times: Array) -> Array:
    """Formants (formants x times) in Hz that glide from vowel to vowel."""
    middle = spoken.starts + spoken.lengths / 2
    return np.stack([np.interp(times, middle, column) for column in targets.T])


def _loudness(spoken: Syllables, times: Array) -> Array:
    """Amplitude over (times,): a rounded hump a syllable, 0 in pauses."""
    phase = (times[:, None] - spoken.starts) / spoken.lengths
    bumps = np.where((phase > 0) & (phase < 1), np.sin(np.pi * np.clip(phase, 0, 1)) ** 0.7, 0.0)
    return np.asarray(bumps @ spoken.loudness)


def _gains(pitch: Array, formants: Array, sample_rate: int) -> Array:
    """Amplitudes (harmonics x times): 1/k of glottis and lips (-12 + 6 dB an octave), times the resonances.

    A resonance at F of width B has the gain F^2 / sqrt((F^2 - f^2)^2 + (B f)^2). Harmonics fade out towards the
    Nyquist frequency, so that none folds back.
    """
    nyquist = sample_rate / 2
    order = np.arange(1, int(0.95 * nyquist / pitch.min()) + 1)
    frequency = order[:, None] * pitch
    gains = 1 / order[:, None] * np.clip((0.95 * nyquist - frequency) / (0.05 * nyquist), 0, 1)
    for centre, width in zip(formants, BANDWIDTHS, strict=True):
        gains = gains * centre**2 / np.sqrt((centre**2 - frequency**2) ** 2 + (width * frequency) ** 2)
    return np.asarray(gains)


def _harmonics(random: Generator, times: Array, pitch: Array, gains: Array, samples: int, sample_rate: int) -> Array:
    """The sum of harmonics of a moving pitch, (samples,)."""
    now = np.arange(samples) / sample_rate
    phase = 2 * np.pi * np.cumsum(np.interp(now, times, pitch)) / sample_rate
    signal = np.zeros(samples)
    for order, (gain, offset) in enumerate(zip(gains, random.uniform(0, 2 * np.pi, len(gains)), strict=True), start=1):
        signal += np.interp(now, times, gain) * np.sin(order * phase + offset)
    return signal
