"""Sound files: found, read as one channel at one sample rate, and made."""

from __future__ import annotations

import io
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import UsageError, did_you_mean

Signal = NDArray[np.floating[Any]]
"""One channel, (samples,); 1 is full scale."""

FORMATS = {".wav": "WAV", ".flac": "FLAC"}
"""Containers by the ending of a file's name."""


@dataclass(frozen=True)
class Sound:
    """A file's sound, mixed down to one channel, and how it was written: soundfile's `container` and `encoding`."""

    signal: Signal
    sample_rate: int
    container: str
    encoding: str


def sound_files_below(folder: Path) -> list[Path]:
    """All WAV and FLAC files in `folder` and below, sorted by path; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in FORMATS and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def read_sound(path: Path) -> Sound:
    """The sound of a file, its channels averaged.

    Raises `UsageError`, naming the file, where it cannot be read, is empty, or holds NaN or infinity.
    """
    import soundfile  # here, so that a machine without its library still has the other tasks

    try:
        with soundfile.SoundFile(path) as file:
            channels = file.read(dtype="float64", always_2d=True)
            sound = Sound(channels.mean(axis=1), file.samplerate, file.format, file.subtype)
    except (soundfile.SoundFileError, OSError) as error:
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise UsageError(f"the sound cannot be read: {reason}", place=str(path)) from error
    if not len(sound.signal):
        raise UsageError("there is no sound in this file", place=str(path))
    if not np.isfinite(sound.signal).all():
        raise UsageError("the sound holds values that are no numbers (NaN or infinity)", place=str(path))
    return sound


def resampled(signal: Signal, given: int, wanted: int) -> Signal:
    """The signal (samples,) at another sample rate in Hz, low-passed so that nothing folds back (polyphase filter)."""
    from scipy.signal import resample_poly

    if given == wanted:
        return signal
    divisor = gcd(given, wanted)
    return np.asarray(resample_poly(signal, wanted // divisor, given // divisor), dtype=np.float64)


def encoded(sound: Sound, container: str | None = None) -> bytes:
    """The bytes of a sound file with one channel, written as `sound` was, or in another container.

    What is beyond full scale is cut off where the encoding is of whole numbers.
    """
    import soundfile

    container = container or sound.container
    encoding = sound.encoding if soundfile.check_format(container, sound.encoding) else None
    content = io.BytesIO()
    soundfile.write(content, sound.signal, sound.sample_rate, format=container, subtype=encoding)
    return content.getvalue()


def container_of(path: Path) -> str:
    """The container that a file's ending says; `UsageError` for one that is neither WAV nor FLAC."""
    ending = path.suffix.lower()
    if ending not in FORMATS:
        hint = did_you_mean(ending, FORMATS)
        raise UsageError("not an ending of a sound file that is written here", place=str(path), value=ending, hint=hint)
    return FORMATS[ending]
