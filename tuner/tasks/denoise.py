"""denoise: a U-Net that takes noise out of sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from tuner.errors import SearchSpaceError, UsageError
from tuner.tasks.audio.cleaning import clean_files, clean_sound
from tuner.tasks.audio.clips import fixed_clips, random_clips, segments
from tuner.tasks.audio.folder import RULE, read_pairs
from tuner.tasks.audio.pairs import Pair, made_pairs, split_by_source
from tuner.tasks.audio.picture import draw_clip
from tuner.tasks.audio.snr import improvements
from tuner.tasks.audio.sound_files import Sound, encoded
from tuner.tasks.audio.unet import STRIDE, UNet
from tuner.tasks.base import Batch, Data, Mean, Samples, Task

if TYPE_CHECKING:  # only pictures need Pillow
    from PIL.Image import Image

BOUNDS: Mapping[str, tuple[float, float]] = {
    "sample_rate": (4000, 192_000),
    "clip_length": (2 * STRIDE, 2**20),
    "segment_seconds": (0.01, 3600),
    "validation_clips": (1, 10_000),
    "validation_share": (0.01, 0.9),
    "split_seed": (0, 2**32),
    "sources": (2, 10_000),
    "seconds": (0.5, 60),
}
"""What a data option may be, both ends included."""

_OF_PAIRS = ("path", "sample_rate", "sources", "seconds", "validation_share", "split_seed")
"""The data options that say which recordings there are to validate on."""

TEST_VOICES = 8
"""Voices made to test on, from where none to train on ever is."""

PREVIEW_SNR = 5.0
"""dB: a preview shows a clip of about this level."""


class Denoise(Task):
    """Clean sound from noisy: pairs of recordings in a folder, or voices made on the spot in white noise.

    `path` is a folder of pairs of WAV or FLAC files, the noisy one named after its clean one (see `audio.folder`);
    they are averaged to one channel and resampled to `sample_rate` (Hz). Without it, `sources` speech-like signals of
    `seconds` each are made, in noise at exactly 0, 5, 10, 15 and 20 dB.

    Each pair is scaled so that its noisy signal has an RMS of 0.35. A `validation_share` of the clean signals, drawn by
    `split_seed`, is kept to validate on. An epoch trains on one clip of `clip_length` samples from each segment of
    `segment_seconds`, at a random place; it validates on up to `validation_clips` clips of each file, always the same.

    The test split is eight voices of its own, as clips alike; a folder has none: all of it is trained or validated on.
    """

    name: ClassVar[str] = "denoise"
    model_options: ClassVar[Mapping[str, Any]] = {"channels": 16, "residual": True}
    data_options: ClassVar[Mapping[str, Any]] = {
        "path": None,
        "sample_rate": 8000,
        "clip_length": 512,
        "segment_seconds": 2.0,
        "validation_clips": 3,
        "validation_share": 0.2,
        "split_seed": 0,
        "sources": 18,
        "seconds": 2.0,
    }
    sound_names: ClassVar[tuple[str, ...]] = ("noisy", "cleaned", "clean")

    def data(self, options: Mapping[str, Any]) -> Data:
        """Segments to train on, clips to validate on (see `audio.clips`); `UsageError` for options out of range."""
        options = {**self.data_options, **options}
        check_options(options)
        rate, clip_length = options["sample_rate"], options["clip_length"]
        pairs = _pairs(options)
        train, validation = split_by_source(pairs, options["validation_share"], options["split_seed"])
        return Data(
            train=segments(train, round(options["segment_seconds"] * rate), clip_length),
            validation=fixed_clips(validation, clip_length, options["validation_clips"]),
        )

    def test_data(self, options: Mapping[str, Any]) -> Samples | None:
        """Clips of made voices that are in no other split; None for a folder."""
        options = {**self.data_options, **options}
        if options["path"] is not None:
            return None
        pairs = made_pairs(TEST_VOICES, options["seconds"], options["sample_rate"], first=int(BOUNDS["sources"][1]))
        return fixed_clips(pairs, options["clip_length"], options["validation_clips"])

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        """A `UNet`; raises `ValueError` for options out of range."""
        return UNet(**options)

    def batch(self, data: Samples, index: Tensor, properties: Mapping[str, Any], generator: torch.Generator) -> Batch:
        """A clip from a random place of each segment at `index` (batch,)."""
        clip_length = properties.get("clip_length", self.data_options["clip_length"])
        return random_clips(data, index, clip_length, generator)

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`mse`: the mean squared error of the waveform, per clip."""
        return {"mse": (output - batch.targets["clean"]).square().mean(dim=(1, 2))}

    def metrics(self, output: Tensor, batch: Batch) -> dict[str, Mean]:
        """`snr_improvement` in dB, and the same by input level (see `audio.snr`); doing nothing has 0."""
        return improvements(batch.targets["clean"], batch.inputs, output, batch.targets["snr"])

    def preview(self, model: nn.Module, data: Data) -> Image:
        """The loudest validation clip of about 5 dB: noisy, cleaned and clean, as waveforms and spectrograms."""
        assert isinstance(data.validation, Samples)
        row = _shown(data.validation)
        device = next(model.parameters()).device
        noisy = data.validation.inputs[row : row + 1].to(device)
        clean = data.validation.targets["clean"][row, 0]
        return draw_clip({"noisy": noisy[0, 0], "cleaned": model(noisy)[0, 0], "clean": clean})

    def sounds(self, model: nn.Module, options: Mapping[str, Any]) -> dict[str, bytes]:
        """A validation recording of about 5 dB, whole: `noisy`, `cleaned` and `clean`."""
        options = {**self.data_options, **options}
        pair = _heard(options)
        device, rate = next(model.parameters()).device, options["sample_rate"]
        noisy = Sound(pair.noisy * pair.gain, rate, "WAV", "PCM_16")
        signals = {"noisy": noisy, "cleaned": clean_sound(model, device, noisy, rate)}
        signals["clean"] = replace(noisy, signal=pair.clean * pair.gain)
        return {name: encoded(sound) for name, sound in signals.items()}

    def apply(
        self, model: nn.Module, options: Mapping[str, Any], source: Path, destination: Path
    ) -> Iterator[tuple[Path, str]]:
        """Clean a WAV or FLAC file, or those of a folder (see `audio.cleaning`)."""
        rate = options.get("sample_rate", self.data_options["sample_rate"])
        return clean_files(model, next(model.parameters()).device, rate, source, destination)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `SearchSpaceError` for a data option out of range."""
    for name, (low, high) in BOUNDS.items():
        if not low <= options[name] <= high:
            raise SearchSpaceError(
                f"must be from {low:g} to {high:g}", place=f"recipe.data.{name}", value=options[name]
            )
    if options["clip_length"] % STRIDE:
        near = round(options["clip_length"] / STRIDE) * STRIDE
        hint = f"The net halves time four times; {near} is the nearest."
        raise SearchSpaceError(
            f"must be a multiple of {STRIDE} samples",
            place="recipe.data.clip_length",
            value=options["clip_length"],
            hint=hint,
        )


def _pairs(options: Mapping[str, Any]) -> list[Pair]:
    """The folder's pairs, or made ones; of two clean signals at least."""
    path = options["path"]
    if path is None:
        return made_pairs(options["sources"], options["seconds"], options["sample_rate"])
    if not isinstance(path, (str, Path)):
        raise SearchSpaceError("must be a folder", place="recipe.data.path", value=path)
    pairs = read_pairs(Path(path).expanduser(), options["sample_rate"])
    if len({pair.source for pair in pairs}) < 2:
        raise UsageError(
            "needs pairs of two different clean signals at least: one to train on, one to validate on",
            place=str(path),
            hint=RULE,
        )
    return pairs


def _heard(options: Mapping[str, Any]) -> Pair:
    """The first recording to validate on of those nearest to `PREVIEW_SNR`."""
    return _heard_for(tuple(sorted((name, options[name]) for name in _OF_PAIRS)))


@lru_cache(maxsize=1)
def _heard_for(options: tuple[tuple[str, Any], ...]) -> Pair:
    given = dict(options)
    _, validation = split_by_source(_pairs(given), given["validation_share"], given["split_seed"])
    return min(validation, key=lambda pair: abs(pair.snr - PREVIEW_SNR))


def _shown(clips: Samples) -> int:
    """The loudest clip of those nearest to `PREVIEW_SNR`."""
    far = (clips.targets["snr"] - PREVIEW_SNR).abs()
    loudness = clips.targets["clean"].square().mean(dim=(1, 2))
    return int(torch.where(far == far.min(), loudness, -1.0).argmax())
