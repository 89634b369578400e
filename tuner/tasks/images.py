"""Images that tasks read, compare and write."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

from tuner.errors import UsageError, did_you_mean
from tuner.files import write_atomically
from tuner.search_space.yaml_file import near_hint

LEAST_MSE = 1e-12
"""The mean squared error below which a PSNR no longer grows (120 dB), so that it is always finite."""

CHUNK = 4_096
"""So many pixels go through a model at once outside training: so few that what its layers give stays in a cache."""


def psnr(mse: float) -> float:
    """The peak signal-to-noise ratio in dB of a mean squared error, for a signal in [0, 1]: -10 log10(mse)."""
    return -10 * math.log10(max(mse, LEAST_MSE))


def compared(drawn: Tensor, image: Image.Image) -> str:
    """How near drawn pixels (pixels x 3) come to an image's: `PSNR 21.3 dB`."""
    return f"PSNR {psnr(float((drawn - pixels_of(image)).square().mean())):.1f} dB"


def in_chunks(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """`function` over the rows of `values`, so many at once that memory stays small; gives rows on the CPU.

    A model is called with tensors on its own device.
    """
    home = next(function.parameters()).device if isinstance(function, nn.Module) else values.device
    return torch.cat([function(part.to(home)).cpu() for part in torch.split(values, CHUNK)])


def read_image(path: Path) -> Image.Image:
    """An image as RGB: grey becomes three equal channels, transparency is laid over white, EXIF turns are made.

    Of moving images it is the first frame. Raises `UsageError`, naming the file, for what Pillow cannot read.
    """
    if path.is_dir():
        raise UsageError("a folder, where an image is needed", place=str(path))
    if not path.is_file():
        raise UsageError("there is no such file", place=str(path), hint=near_hint(path))
    try:
        # Large files and odd metadata are the user's own affair.
        with warnings.catch_warnings(action="ignore"), Image.open(path) as opened:
            return _as_rgb(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError:
        raise UsageError("not an image that Pillow can read", place=str(path)) from None
    except Exception as error:  # decoders raise whatever a damaged file makes them raise
        raise UsageError(f"the image cannot be read: {error}", place=str(path)) from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which `convert` would cut off at 255
        eight = np.rint(np.asarray(image, dtype=np.float64).clip(0, 65_535) / 257).astype(np.uint8)
        return Image.fromarray(eight).convert("RGB")
    if image.mode.endswith(("A", "a")) or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        return paper.convert("RGB")
    return image.convert("RGB")


def pixels_of(image: Image.Image) -> Tensor:
    """The colours of an RGB image in [0, 1], row by row from the top: (height * width) x 3."""
    return torch.tensor(np.asarray(image), dtype=torch.float32).reshape(-1, 3) / 255


def image_of(pixels: Tensor, width: int, height: int) -> Image.Image:
    """The RGB image of `pixels` ((height * width) x 3), values beyond [0, 1] cut off."""
    eight = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).reshape(height, width, 3)
    return Image.fromarray(eight.cpu().numpy())


def side_by_side(parts: Sequence[Image.Image]) -> Image.Image:
    """Images of one height in a row."""
    row = Image.new("RGB", (sum(part.width for part in parts), parts[0].height))
    left = 0
    for part in parts:
        row.paste(part, (left, 0))
        left += part.width
    return row


def write_image(path: Path, image: Image.Image) -> None:
    """Write an image in the format that the name's ending says, in place at once."""
    content = io.BytesIO()
    image.save(content, format=Image.registered_extensions()[path.suffix.lower()])
    write_atomically(path, content.getvalue())


def image_files(source: Path) -> list[Path]:
    """The image that `source` is, or the images in that folder by name, each of which can be read.

    Raises `UsageError` where there is none, and for the first that cannot be read.
    """
    found = [source]
    if source.is_dir():
        endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
        files = (path for path in sorted(source.iterdir()) if path.is_file() and not path.name.startswith("."))
        found = [path for path in files if path.suffix.lower() in endings]
        if not found:
            raise UsageError("no image in this folder", place=str(source), hint="PNG, JPEG and many more will do.")
    for path in found:
        read_image(path)
    return found


def outputs_for(files: Sequence[Path], destination: Path) -> list[tuple[Path, Path]]:
    """Each file with the image to write for it.

    In the folder `destination` it is a PNG of the file's stem, or its whole name where stems are alike; of a single
    file, `destination` may be the image itself, in any format that Pillow writes. Raises `UsageError` where that would
    overwrite one of the files.
    """
    if len(files) == 1 and not destination.is_dir() and destination.suffix:
        targets = [_image_to_write(destination)]
    else:
        stems = [path.stem for path in files]
        names = [path.stem if stems.count(path.stem) == 1 else path.name for path in files]
        targets = [as_folder(destination) / f"{name}.png" for name in names]
    inputs = {path.resolve() for path in files}
    for target in targets:
        if target.resolve() in inputs:
            raise UsageError("would overwrite an image that is read", place=str(target), hint="Name another folder.")
    return list(zip(files, targets, strict=True))


def as_folder(path: Path) -> Path:
    """`path`, where files are to be written; `UsageError` for one that is a file."""
    if path.is_file():
        raise UsageError("a file, where a folder is needed", place=str(path))
    return path


def _image_to_write(path: Path) -> Path:
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.SAVE}
    if path.suffix.lower() not in endings:
        near = did_you_mean(path.suffix, (".png", ".jpg", ".tiff", ".bmp", ".gif", ".webp"))
        raise UsageError("not an ending of an image that Pillow writes", place=str(path), value=path.suffix, hint=near)
    return path
