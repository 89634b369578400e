"""Pictures of whatever form as bytes of colours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import UsageError

Picture = NDArray[np.uint8]
"""height x width x 3."""


def as_picture(value: Any, name: str = "image") -> Picture:
    """A tensor, array or PIL image as a picture; `UsageError` for what is none.

    Height x width, height x width x channels or channels x height x width, of one, three or four channels (the fourth
    is dropped); floats are in [0, 1], other values cut off; NaN is black.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        shape = " x ".join(map(str, np.shape(value)))
        raise UsageError(
            "a picture is height x width, with one or three channels before or behind", place=name, value=shape
        )
    if array.dtype != np.uint8:
        array = (np.nan_to_num(array.astype(np.float32)).clip(0, 1) * 255).round().astype(np.uint8)
    array = array[:, :, :3]
    return np.ascontiguousarray(np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array)


def side_by_side(pictures: Mapping[str, Any]) -> Picture | None:
    """Pictures in a row, brought to the height of the highest; None where there are none."""
    arrays = [as_picture(value, name) for name, value in pictures.items()]
    if len(arrays) < 2:
        return arrays[0] if arrays else None
    height = max(array.shape[0] for array in arrays)
    return np.concatenate([_of_height(array, height) for array in arrays], axis=1)


def _of_height(picture: Picture, height: int) -> Picture:
    """A picture scaled to a height, each of its pixels as a block."""
    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    rows = np.arange(height) * picture.shape[0] // height
    columns = np.arange(width) * picture.shape[1] // width
    scaled: Picture = picture[rows][:, columns]
    return scaled
