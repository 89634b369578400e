"""A picture of one clip: noisy, cleaned and clean, as waveforms and as spectrograms."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

WINDOW, HOP = 128, 8
"""Samples of a spectrogram's window, and from one to the next."""

FLOOR = -60.0
"""dB under the loudest: what is fainter is drawn as black."""


def draw_clip(signals: dict[str, Tensor]) -> Image:
    """Named signals of one length (time,) side by side, 1200 x 600 pixels, all on the same scales; NaN is silence."""
    finite = {name: torch.nan_to_num(signal.cpu(), posinf=0.0, neginf=0.0) for name, signal in signals.items()}
    return _sheet_for(tuple(signals), len(next(iter(finite.values())))).draw(finite)


@lru_cache(maxsize=1)
def _sheet_for(names: tuple[str, ...], length: int) -> _Sheet:
    return _Sheet(names, length)


class _Sheet:
    """A figure whose layout, which takes most of the time, is worked out once; then its contents are replaced."""

    def __init__(self, names: tuple[str, ...], length: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure: Any = Figure(figsize=(12, 6), dpi=100, layout="constrained")
        self.canvas: Any = cast(Any, FigureCanvasAgg)(self.figure)
        self.axes: Any = self.figure.subplots(2, len(names), sharex=True, sharey="row")
        self.waves, self.spectra = [], []
        empty = decibels(torch.zeros(length)).numpy()
        for (wave, spectrum), name in zip(self.axes.T, names, strict=True):
            self.waves.append(wave.plot(np.linspace(-1, 1, length), linewidth=0.8)[0])
            wave.set_title(name)
            extent = (0, length, 0, 0.5)
            self.spectra.append(spectrum.imshow(empty, origin="lower", aspect="auto", extent=extent, cmap="magma"))
            spectrum.set_xlabel("time (samples)")
        self.axes[0, 0].set_ylabel("amplitude")
        self.axes[1, 0].set_ylabel("frequency (of the sample rate)")
        self.figure.colorbar(self.spectra[-1], ax=self.axes[1, :], label="dB")
        self.canvas.draw()
        self.figure.set_layout_engine("none")

    def draw(self, signals: dict[str, Tensor]) -> Image:
        """The signals in place of the last ones."""
        from PIL import Image as Pillow

        pictures = [decibels(signal).numpy() for signal in signals.values()]
        loudest = max(float(picture.max()) for picture in pictures)
        highest = max(float(signal.abs().max()) for signal in signals.values()) or 1.0
        for wave, spectrum, signal, picture in zip(self.waves, self.spectra, signals.values(), pictures, strict=True):
            wave.set_ydata(signal.numpy())
            spectrum.set_data(picture)
            spectrum.set_clim(loudest + FLOOR, loudest)
        self.axes[0, 0].set_ylim(-1.05 * highest, 1.05 * highest)
        self.canvas.draw()
        return Pillow.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB")


def decibels(signal: Tensor) -> Tensor:
    """A spectrogram (frequencies x times) of a signal (time,), in dB."""
    window = torch.hann_window(min(WINDOW, len(signal)))
    spectrum = torch.stft(
        signal, len(window), hop_length=HOP, window=window, center=True, pad_mode="constant", return_complex=True
    )
    return 20 * torch.log10(spectrum.abs().clamp_min(1e-6))
