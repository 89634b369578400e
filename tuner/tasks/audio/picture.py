"""A picture of one clip: noisy, cleaned and clean, as waveforms and as spectrograms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    """Named signals of one length (time,) side by side, 1200 x 600 pixels, all on the same scales."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image as Pillow

    figure = Figure(figsize=(12, 6), dpi=100, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes: Any = figure.subplots(2, len(signals), sharex=True, sharey="row")
    pictures = {name: decibels(signal.cpu()) for name, signal in signals.items()}
    loudest = max(float(picture.max()) for picture in pictures.values())
    for column, (name, signal) in enumerate(signals.items()):
        wave, spectrum = axes[0, column], axes[1, column]
        wave.plot(signal.tolist(), linewidth=0.8)
        wave.set_title(name)
        shown = spectrum.imshow(
            pictures[name].numpy(),
            origin="lower",
            aspect="auto",
            extent=(0, len(signal), 0, 0.5),
            vmin=loudest + FLOOR,
            vmax=loudest,
            cmap="magma",
        )
        spectrum.set_xlabel("time (samples)")
    axes[0, 0].set_ylabel("amplitude")
    axes[1, 0].set_ylabel("frequency (of the sample rate)")
    figure.colorbar(shown, ax=axes[1, :], label="dB")
    canvas.draw()
    return Pillow.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def decibels(signal: Tensor) -> Tensor:
    """A spectrogram (frequencies x times) of a signal (time,), in dB."""
    window = torch.hann_window(min(WINDOW, len(signal)))
    spectrum = torch.stft(
        signal, len(window), hop_length=HOP, window=window, center=True, pad_mode="constant", return_complex=True
    )
    return 20 * torch.log10(spectrum.abs().clamp_min(1e-6))
