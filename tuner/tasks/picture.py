"""picture: a small net that knows one picture, from coordinates to colours."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.errors import UsageError
from tuner.tasks.base import Batch, Data, Samples, Task
from tuner.tasks.images import (
    compared,
    image_files,
    image_of,
    in_chunks,
    outputs_for,
    pixels_of,
    psnr,
    read_image,
    side_by_side,
    write_image,
)

HUBER_DELTA = 0.1
"""Where the Huber term turns from a parabola into a line, in units of the channel's range."""


class Picture(Task):
    """One picture of `size` x `size` pixels as a function of the place: coordinates in, RGB in [0, 1] out.

    The data option `path` names the picture, in any format that Pillow reads; without one it is `china.jpg`, a
    photograph that comes with scikit-learn. The picture as a whole is resized to a square, whatever its proportions:
    `apply` stretches it back. Validation is on the same pixels: what is asked is how well they are fitted.
    """

    name: ClassVar[str] = "picture"
    model_options: ClassVar[Mapping[str, Any]] = {"hidden": 64, "layers": 3, "frequencies": 0}
    data_options: ClassVar[Mapping[str, Any]] = {"path": "", "size": 256}
    held_out: ClassVar[bool] = False

    def data(self, options: Mapping[str, Any]) -> Data:
        """All pixels: their coordinates (pixels x 2) and colours (pixels x 3), row by row from the top.

        Raises `UsageError` for a file that is no image, or a size below 2.
        """
        given = {**self.data_options, **options}
        size = given["size"]
        if size < 2:
            raise UsageError("must be at least 2 pixels", place="recipe.data.size", value=size)
        image = read_image(Path(given["path"]).expanduser()) if given["path"] else _china()
        colors = pixels_of(image.resize((size, size), resample=Image.Resampling.LANCZOS))
        samples = Samples(coordinates(size, size), colors)
        return Data(train=samples, validation=samples)

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        """A `CoordinateNet`; raises `ValueError` for options out of range."""
        return CoordinateNet(**options)

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`mse`, `l1` and `huber` (delta 0.1), each the mean over the three channels, per sample."""
        huber = F.huber_loss(output, batch.targets, reduction="none", delta=HUBER_DELTA)
        error = output - batch.targets
        return {"mse": error.square().mean(dim=-1), "l1": error.abs().mean(dim=-1), "huber": huber.mean(dim=-1)}

    def derived(self, averages: Mapping[str, float]) -> dict[str, float]:
        """`psnr` in dB, from the mean squared error over all pixels, whatever the loss."""
        return {"psnr": psnr(averages["mse"])}

    def preview(self, model: nn.Module, data: Data) -> Image.Image:
        """The target, the model's picture, and the absolute difference, side by side: (3 size) x size pixels."""
        assert isinstance(data.validation, Samples)
        size = math.isqrt(len(data.validation))
        target = data.validation.targets.cpu()
        drawn = in_chunks(model, data.validation.inputs)
        parts = [image_of(part, size, size) for part in (target, drawn, (target - drawn).abs())]
        return side_by_side(parts)

    def apply(
        self, model: nn.Module, options: Mapping[str, Any], source: Path, destination: Path
    ) -> Iterator[tuple[Path, str]]:
        """Draw the picture that the model knows for each image of `source`, at that image's size (see `outputs_for`).

        The model knows one picture only: an image gives the size, and is what the PSNR compares with. Raises
        `UsageError` for files that are no images, before anything is written.
        """
        for path, target in outputs_for(image_files(source), destination):
            image = read_image(path)
            drawn = in_chunks(model, coordinates(*image.size))
            write_image(target, image_of(drawn, *image.size))
            yield target, f"{image.width} x {image.height} pixels, {compared(drawn, image)} to {path.name}"


class CoordinateNet(nn.Module):
    """A ReLU net of `layers` hidden layers of `hidden` units, with a sigmoid out.

    With `frequencies` > 0 it also sees sin and cos of 2^k pi x and 2^k pi y for k below that number, which lets it
    draw finer detail (Tancik et al., Fourier Features Let Networks Learn High Frequency Functions, 2020).
    """

    scales: Tensor

    def __init__(self, hidden: int, layers: int, frequencies: int) -> None:
        super().__init__()
        if hidden < 1 or layers < 1:
            raise ValueError(f"hidden and layers must be at least 1, not {hidden} and {layers}")
        if not 0 <= frequencies <= 16:
            raise ValueError(f"frequencies must be from 0 to 16, not {frequencies}")
        self.register_buffer("scales", torch.pi * 2.0 ** torch.arange(frequencies), persistent=False)
        widths = [2 + 4 * frequencies, *[hidden] * layers]
        parts: list[nn.Module] = []
        for before, width in itertools.pairwise(widths):
            parts += [nn.Linear(before, width), nn.ReLU()]
        self.layers = nn.Sequential(*parts, nn.Linear(hidden, 3), nn.Sigmoid())

    def forward(self, places: Tensor) -> Tensor:
        """Colours (batch x 3) in [0, 1] at places (batch x 2), x to the right and y down, each in [-1, 1]."""
        angles = (places.unsqueeze(-1) * self.scales).flatten(-2)
        colors: Tensor = self.layers(torch.cat([places, angles.sin(), angles.cos()], dim=-1))
        return colors


def coordinates(width: int, height: int) -> Tensor:
    """The centres of all pixels as (x, y) in [-1, 1], row by row from the top: (height * width) x 2."""
    across, down = ((torch.arange(count) + 0.5) * (2 / count) - 1 for count in (width, height))
    y, x = torch.meshgrid(down, across, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def _china() -> Image.Image:
    """The photograph that comes with scikit-learn, 640 x 427 pixels."""
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg"))
