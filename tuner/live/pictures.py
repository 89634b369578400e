"""Pictures of whatever form: checked where they are made, turned into bytes of colours where they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import UsageError

Picture = NDArray[np.uint8]
"""height x width x 3."""

CHANNELS = (1, 3, 4)


def as_array(value: Any, name: str = "image") -> NDArray[Any]:
    """A tensor, array or PIL image as an array of its own, height x width x channels; `UsageError` for what is none.

    It is height x width, height x width x channels or channels x height x width, of one, three or four channels.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 3 and array.shape[2] not in CHANNELS and array.shape[0] in CHANNELS:
        array = np.moveaxis(array, 0, 2)
    if array.ndim != 3 or array.shape[2] not in CHANNELS or not array.size or array.dtype.kind not in "fiub":
        rule = "a picture is height x width, with one or three channels before or behind"
        raise UsageError(rule, place=name, value=" x ".join(map(str, np.shape(value))))
    return array.copy()


def as_picture(array: NDArray[Any]) -> Picture:
    """An array of `as_array` as bytes of colours; the fourth channel is dropped.

    Bytes are taken as they are, other numbers as in [0, 1], what is beyond cut off; NaN is black.
    """
    if array.dtype != np.uint8:
        array = (np.nan_to_num(array.astype(np.float32)).clip(0, 1) * 255).round().astype(np.uint8)
    array = array[:, :, :3]
    return np.ascontiguousarray(np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array)


def side_by_side(arrays: Sequence[NDArray[Any]]) -> Picture:
    """Arrays of `as_array` in a row, brought to the height of the highest."""
    pictures = [as_picture(array) for array in arrays]
    height = max(picture.shape[0] for picture in pictures)
    return np.concatenate([_of_height(picture, height) for picture in pictures], axis=1)


def _of_height(picture: Picture, height: int) -> Picture:
    """A picture scaled to a height, each of its pixels as a block."""
    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    rows = np.arange(height) * picture.shape[0] // height
    columns = np.arange(width) * picture.shape[1] // width
    scaled: Picture = picture[rows][:, columns]
    return scaled
