"""digits: handwritten digits read by a small recurrent convolutional net."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.errors import did_you_mean
from tuner.files import write_atomically
from tuner.tasks.base import Batch, Data, Mean, Samples, Task
from tuner.tasks.images import as_folder, image_files, read_image

RECURRENCES = ("full", "depthwise", "none")

SHOWN, CELL = (5, 8), (56, 72)
"""Rows and columns of a preview, and the width and height in pixels of one digit with what it was read as."""


class Digits(Task):
    """The 1,797 handwritten digits of scikit-learn (8 x 8 pixels, 10 classes), split 60/20/20 once and for all.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), test part.
    """

    name: ClassVar[str] = "digits"
    model_options: ClassVar[Mapping[str, Any]] = {
        "channels": 16,
        "timesteps": 4,
        "tau": 2.0,
        "recurrence": "full",
        "dropout": 0.0,
    }

    def data(self, options: Mapping[str, Any]) -> Data:
        """Stratified by digit: 1,077 images to train on, 360 to validate on, 360 to test on; pixels in [0, 1]."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        pixels, labels = load_digits(return_X_y=True)
        rest_x, validation_x, rest_y, validation_y = train_test_split(
            pixels, labels, test_size=360, stratify=labels, random_state=0
        )
        train_x, test_x, train_y, test_y = train_test_split(
            rest_x, rest_y, test_size=360, stratify=rest_y, random_state=0
        )
        parts = ((train_x, train_y), (validation_x, validation_y), (test_x, test_y))
        train, validation, test = (_samples(*part) for part in parts)
        return Data(train, validation, test)

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        """A `RecurrentConvNet`; raises `ValueError` for options out of range."""
        return RecurrentConvNet(**options)

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of the ten classes in nats, per sample."""
        return {"cross_entropy": F.cross_entropy(output, batch.targets, reduction="none")}

    def metrics(self, output: Tensor, batch: Batch) -> dict[str, Mean]:
        """`accuracy`: the share of digits read rightly; `top5_accuracy`: that are among the five most likely.

        Another digit that is exactly as likely, or NaN, comes first.
        """
        likely = output.gather(1, batch.targets.unsqueeze(1))
        others_first = (~(output < likely)).sum(dim=1) - 1
        return {"accuracy": Mean.of(others_first == 0), "top5_accuracy": Mean.of(others_first < 5)}

    def preview(self, model: nn.Module, data: Data) -> Image.Image:
        """The first 40 validation digits, below each what it is read as: green, or red with what it is.

        448 x 360 pixels.
        """
        assert isinstance(data.validation, Samples)
        rows, columns = SHOWN
        index = torch.arange(rows * columns, device=data.validation.device)
        batch = data.validation.rows(index).to(next(model.parameters()).device)
        read, truths = model(batch.inputs).argmax(dim=1).tolist(), batch.targets.tolist()
        sheet = Image.new("RGB", (columns * CELL[0], rows * CELL[1]))
        font = ImageFont.load_default()
        for place, (pixels, digit, truth) in enumerate(zip(batch.inputs, read, truths, strict=True)):
            words, color = (f"{digit}", "lightgreen") if digit == truth else (f"{digit}, is {truth}", "red")
            cell = _drawn(pixels, words, color, font)
            sheet.paste(cell, (place % columns * CELL[0], place // columns * CELL[1]))
        return sheet

    def apply(
        self, model: nn.Module, options: Mapping[str, Any], source: Path, destination: Path
    ) -> Iterator[tuple[Path, str]]:
        """Read the digit in an image, or in each image of a folder (see `digit_in`), into a CSV.

        It has the columns file, digit, and probability, the model's own of that digit; `destination` is the folder
        for `predictions.csv`, or a name that ends in .csv. Raises `UsageError` for files that are no images.
        """
        target = destination
        if destination.suffix.lower() != ".csv":
            target = as_folder(destination) / "predictions.csv"
        home = next(model.parameters()).device
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["file", "digit", "probability"])
        paths = image_files(source)
        for path in paths:
            chances = model(digit_in(read_image(path)).to(home)).softmax(dim=1)[0].cpu()
            table.writerow([path.name, int(chances.argmax()), f"{float(chances.max()):.4f}"])
        write_atomically(target, text.getvalue().encode())
        yield target, f"{len(paths)} {'digit' if len(paths) == 1 else 'digits'} read"


def _samples(pixels: Any, labels: Any) -> Samples:
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return Samples(images, torch.tensor(labels, dtype=torch.int64))


def digit_in(image: Image.Image) -> Tensor:
    """An RGB image as the net sees a digit: 1 x 1 x 8 x 8, ink 1 and paper 0, each pixel the mean of its block.

    An image whose outermost pixels are bright on average is dark ink on light paper, and is inverted. What is not
    square gets paper on both sides. As in the data, the digit should fill the image's height.
    """
    grey = image.convert("L")
    grey.thumbnail((512, 512), Image.Resampling.BOX, reducing_gap=None)  # small enough to be made square
    ink = np.asarray(grey, dtype=np.float32) / 255
    edges = (ink[0], ink[-1], ink[1:-1, 0], ink[1:-1, -1])
    if np.concatenate(edges).mean() > 0.5:
        ink = 1 - ink
    side = max(ink.shape)
    margins = [((side - length) // 2, side - length - (side - length) // 2) for length in ink.shape]
    small = Image.fromarray(np.pad(ink, margins)).resize((8, 8), resample=Image.Resampling.BOX)
    return torch.tensor(np.asarray(small)).reshape(1, 1, 8, 8)


def _drawn(pixels: Tensor, words: str, color: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> Image.Image:
    """One cell of a preview: a digit (1 x 8 x 8, in [0, 1]) and the words below it."""
    width, height = CELL
    cell = Image.new("RGB", CELL)
    image = Image.fromarray((pixels[0] * 255).round().to(torch.uint8).cpu().numpy())
    cell.paste(image.resize((width - 8, width - 8), resample=Image.Resampling.NEAREST), (4, 4))
    ImageDraw.Draw(cell).text((width / 2, height - 10), words, fill=color, font=font, anchor="mm")
    return cell


class RecurrentConvNet(nn.Module):
    """A rate network on the image plane: drive = conv(x) + recurrence(h), h <- relu(h + dt/tau (drive - h)).

    `timesteps` Euler steps of dt = 1 from h = 0, then 2 x 2 average pooling, dropout and a linear readout.
    `recurrence` is a 3 x 3 convolution over all channels (`full`), one per channel (`depthwise`), or `none`.
    """

    remaining: Tensor

    def __init__(self, channels: int, timesteps: int, tau: float, recurrence: str, dropout: float) -> None:
        super().__init__()
        if channels < 1 or timesteps < 1:
            raise ValueError(f"channels and timesteps must be at least 1, not {channels} and {timesteps}")
        if tau < 1:
            raise ValueError(f"tau must be at least 1 (the Euler step is 1), not {tau}")
        if recurrence not in RECURRENCES:
            hint = did_you_mean(recurrence, RECURRENCES)
            raise ValueError(f"there is no recurrence '{recurrence}'. {hint}")
        self.timesteps, self.tau = timesteps, tau
        self.input = nn.Conv2d(1, channels, kernel_size=3, padding=1)
        groups = channels if recurrence == "depthwise" else 1
        self.recurrence = (
            None
            if recurrence == "none"
            else nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=groups, bias=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(channels * 16, 10)
        remaining = torch.full((), 1 - 1 / tau)
        if self.recurrence is not None:
            remaining = remaining * nn.init.dirac_(torch.empty_like(self.recurrence.weight), groups)
        self.register_buffer("remaining", remaining, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch x 10) of images (batch x 1 x 8 x 8)."""
        drive = self.input(images) / self.tau
        rate = F.relu(drive)  # after the first step, from h = 0
        step = self._step()
        for _ in range(self.timesteps - 1):
            rate = F.relu(drive + step(rate))
        pooled: Tensor = F.avg_pool2d(rate, 2).flatten(1)
        logits: Tensor = self.readout(self.dropout(pooled))
        return logits

    def _step(self) -> Callable[[Tensor], Tensor]:
        """The linear part of a step, (1 - dt/tau) h + dt/tau recurrence(h), as one convolution of h."""
        if self.recurrence is None:
            return lambda rate: self.remaining * rate
        kernel, groups = self.remaining + self.recurrence.weight / self.tau, self.recurrence.groups
        return lambda rate: F.conv2d(rate, kernel, padding=1, groups=groups)
