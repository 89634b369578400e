"""A folder of recordings as pairs: the noisy file is named after its clean one, with the level in dB."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tuner.errors import UsageError, did_you_mean
from tuner.tasks.audio.pairs import Pair, gain_of
from tuner.tasks.audio.sound_files import Signal, read_sound, resampled, sound_files_below

RULE = (
    "The noisy file is named after its clean one, with the signal-to-noise ratio in dB: speech1.wav and "
    "speech1_snr_5.wav, speech1_snr_-2.5_street.flac; the two may lie in different folders below."
)

NOISY = re.compile(r"(?P<clean>.+)_snr_(?P<level>[-+]?\d+(\.\d+)?)(db)?([^0-9.].*)?", re.IGNORECASE)
"""The name of a noisy file without its ending."""


class NoisyFile(NamedTuple):
    """A noisy file, the name of its clean one without ending, and its level in dB."""

    path: Path
    clean: str
    snr: float


def read_pairs(folder: Path, sample_rate: int) -> list[Pair]:
    """The pairs in `folder` and below, resampled to `sample_rate` and cut to the shorter of the two, by noisy path.

    A clean file without a noisy one is passed over; clean files of the same content are one source. Raises
    `UsageError` for a folder that is not there or holds no pair, a noisy file without its clean one, and a file that
    cannot be read.
    """
    if not folder.is_dir():
        wrong = "a file, where a folder is needed" if folder.exists() else "there is no such folder"
        raise UsageError(wrong, place="recipe.data.path", value=str(folder), hint=RULE)
    files = sound_files_below(folder)
    noisy = [entry for path in files if (entry := parse_name(path)) is not None]
    clean = _by_stem(sorted(set(files) - {entry.path for entry in noisy}))
    if not noisy:
        raise UsageError(f"no pairs of clean and noisy sound: {_found(files)}", place=str(folder), hint=RULE)
    for entry in noisy:
        _check_clean(entry, clean)
    signals = {stem: _signal(clean[stem][0], sample_rate) for stem in sorted({entry.clean for entry in noisy})}
    sources = _sources(signals)
    pairs = []
    for entry in noisy:
        heard, signal = _signal(entry.path, sample_rate), signals[entry.clean]
        length = min(len(heard), len(signal))
        pairs.append(Pair(sources[entry.clean], signal[:length], heard[:length], entry.snr, gain_of(heard[:length])))
    return pairs


def parse_name(path: Path) -> NoisyFile | None:
    """What the name of a noisy file says; None for a clean one's. `UsageError` where `_snr_` has no number behind."""
    match = NOISY.fullmatch(path.stem)
    if match is None:
        if "_snr_" in path.stem.lower():
            raise UsageError("the name says no number behind _snr_", place=str(path), hint=RULE)
        return None
    return NoisyFile(path, match["clean"], float(match["level"]))


def _by_stem(paths: Sequence[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    return found


def _check_clean(entry: NoisyFile, clean: dict[str, list[Path]]) -> None:
    """Raise `UsageError` unless there is one clean file for a noisy one."""
    candidates = clean.get(entry.clean, [])
    if not candidates:
        expected = f"{entry.clean}{entry.path.suffix}"
        near = f"{did_you_mean(entry.clean, clean)} {RULE}" if clean else RULE
        raise UsageError(f"no clean file for this noisy one: there is no {expected}", place=str(entry.path), hint=near)
    if len(candidates) > 1:
        both = " and ".join(str(path) for path in candidates[:2])
        raise UsageError(f"two clean files for this noisy one: {both}", place=str(entry.path), hint="Rename one.")


def _found(files: Sequence[Path]) -> str:
    """What a folder holds, in words."""
    if not files:
        return "found no WAV or FLAC file"
    names = ", ".join(path.name for path in files[:5]) + (", ..." if len(files) > 5 else "")
    return f"found only {len(files)} clean file{'s' if len(files) > 1 else ''} ({names})"


def _signal(path: Path, sample_rate: int) -> Signal:
    """A file's sound at a sample rate, in half the memory: recordings may last for hours."""
    sound = read_sound(path)
    return resampled(sound.signal, sound.sample_rate, sample_rate).astype(np.float32)


def _sources(signals: Mapping[str, Signal]) -> dict[str, str]:
    """The first stem with the same signal, for each stem: copies must not be split apart."""
    first: dict[bytes, str] = {}
    return {
        stem: first.setdefault(hashlib.blake2b(signal.tobytes()).digest(), stem) for stem, signal in signals.items()
    }
