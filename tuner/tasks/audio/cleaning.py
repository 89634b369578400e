"""Sound files through a trained net."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tuner.errors import UsageError
from tuner.files import write_atomically
from tuner.tasks.audio.pairs import gain_of
from tuner.tasks.audio.sound_files import (
    FORMATS,
    Signal,
    Sound,
    container_of,
    encoded,
    read_sound,
    resampled,
    sound_files_below,
)
from tuner.tasks.audio.windows import in_windows

Net = Callable[[Tensor], Tensor]


def clean_files(
    net: Net, device: torch.device, sample_rate: int, source: Path, destination: Path
) -> Iterator[tuple[Path, str]]:
    """Clean a sound file, or all in a folder and below; gives each file written and a few words about it.

    A file written has its source's name, sample rate, length and encoding, and one channel. Raises `UsageError` where
    there is no sound, a file cannot be read, or one that is read would be overwritten, before anything is written.
    """
    planned = plan(source, destination)
    for path, _ in planned:
        read_sound(path)
    for path, target in planned:
        sound = read_sound(path)
        cleaned = clean_sound(net, device, sound, sample_rate)
        write_atomically(target, encoded(cleaned, None if target.suffix == path.suffix else container_of(target)))
        yield target, _in_words(sound, cleaned)


def clean_sound(net: Net, device: torch.device, sound: Sound, sample_rate: int) -> Sound:
    """A sound without its noise: through the net at its `sample_rate` and level, and back to the sound's own.

    What lies above half the net's sample rate is lost.
    """
    noisy = resampled(sound.signal, sound.sample_rate, sample_rate)
    gain = gain_of(noisy)
    signal = torch.from_numpy((noisy * gain).astype(np.float32)).to(device)
    output = in_windows(net, signal).cpu().numpy().astype(np.float64) / gain
    return replace(sound, signal=_of_length(resampled(output, sample_rate, sound.sample_rate), len(sound.signal)))


def plan(source: Path, destination: Path) -> list[tuple[Path, Path]]:
    """Each file to read with the file to write.

    In the folder `destination` it has the place that its source has in the folder `source`; of a single file,
    `destination` may be the file itself. What `destination` already holds is not read.
    """
    if source.is_dir():
        if destination.is_file():
            raise UsageError("a file, where a folder is needed", place=str(destination))
        files = [path for path in sound_files_below(source) if not _within(path, source, destination)]
        if not files:
            raise UsageError("no WAV or FLAC file in this folder", place=str(source))
        planned = [(path, destination / path.relative_to(source)) for path in files]
    elif not source.is_file():
        raise UsageError("there is no such file or folder", place=str(source))
    elif destination.suffix.lower() in FORMATS and not destination.is_dir():
        planned = [(source, destination)]
    else:
        container_of(source)
        planned = [(source, destination / source.name)]
    _check_none_is_read(planned)
    return planned


def _within(path: Path, source: Path, destination: Path) -> bool:
    """Whether a file of `source` lies in `destination`, a folder of its own below: an earlier result."""
    inner = destination.resolve()
    return inner != source.resolve() and inner.is_relative_to(source.resolve()) and path.resolve().is_relative_to(inner)


def _check_none_is_read(planned: list[tuple[Path, Path]]) -> None:
    """Raise `UsageError` where a file to write is one to read, or its folder is a file."""
    inputs = {path.resolve() for path, _ in planned}
    for _, target in planned:
        if target.resolve() in inputs:
            raise UsageError("would overwrite a sound that is read", place=str(target), hint="Name another folder.")
        if target.is_dir():
            raise UsageError("a folder, where a file is to be written", place=str(target))
        if target.parent.exists() and not target.parent.is_dir():
            raise UsageError("a file, where a folder is needed", place=str(target.parent))


def _of_length(signal: Signal, length: int) -> Signal:
    """The signal (samples,) cut, or with zeros behind, so that it has `length`."""
    return np.pad(signal[:length], (0, max(0, length - len(signal))))


def _in_words(sound: Sound, cleaned: Sound) -> str:
    """How long the sound is, and how much quieter it became."""
    seconds = len(sound.signal) / sound.sample_rate
    before, after, removed = (
        float(np.sqrt(np.mean(signal**2))) for signal in (sound.signal, cleaned.signal, sound.signal - cleaned.signal)
    )
    if min(before, after, removed) <= 0:
        return f"{seconds:.1f} s"
    return f"{seconds:.1f} s, removed what is {20 * np.log10(after / removed):.1f} dB below the rest"
