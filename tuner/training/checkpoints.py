"""Checkpoints: the states of several trials in one file, which is read without executing anything.

A checkpoint is a safetensors file. Its tensors are the bytes of the states' tensors and arrays, one after another;
its metadata holds the states' structure as JSON, in which each of them is a number, and a checksum of it all.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from tuner.files import replacing

FORMAT = "tuner checkpoint 1"
"""Another format has another name, so that none is mistaken for the other."""


class CheckpointError(Exception):
    """A checkpoint is missing, damaged, or none."""


class UnstorableError(TypeError):
    """A state holds a value that no checkpoint can hold; `path` says where, such as `3.model._extra_state`."""

    def __init__(self, path: str, value: object) -> None:
        super().__init__(f"no checkpoint can hold {path}, of type {type(value).__qualname__}")
        self.path = path


def save_checkpoint(path: Path, states: Mapping[int, Mapping[str, Any]]) -> None:
    """Write the states of trials, by number, to one file: whole and durable when this returns, or not there at all.

    A state is made of dicts, lists, tuples, None, bool, int, float, str, NumPy arrays and scalars, and dense tensors
    of any kind, shape and device. Raises `UnstorableError` for anything else, before anything is written; `OSError`
    where the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    writer = _Encoder()
    structure = json.dumps(
        [[number, writer.encode(state, str(number))] for number, state in states.items()], allow_nan=False
    )
    tensors = {str(number): leaf for number, leaf in enumerate(_apart(map(_bytes_of, writer.leaves)))}
    metadata = {"format": FORMAT, "structure": structure, "checksum": _checksum(structure, tensors.values())}
    with replacing(path) as draft:
        try:
            save_file(tensors, draft, metadata=metadata)
        except SafetensorError as error:
            raise _as_os_error(error, path) from error


def load_checkpoint(path: Path) -> dict[int, dict[str, Any]]:
    """The states in a file, by trial number: equal in types and bits to those saved, tensors on the CPU.

    Raises `CheckpointError` for a file that is missing, damaged, or no checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = set(file.keys())
            tensors = [file.get_tensor(str(number)) for number in range(len(names))]
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint that this version reads")
    structure = metadata.get("structure", "")
    if metadata.get("checksum") != _checksum(structure, tensors):
        raise CheckpointError(f"{path} is damaged")
    return {number: _decoded(state, tensors) for number, state in json.loads(structure)}


def storable(state: Mapping[str, Any]) -> str | None:
    """The path within a state of a value that no checkpoint can hold, such as `model._extra_state`; None if all can."""
    try:
        _Encoder().encode(state, "")
    except UnstorableError as error:
        return error.path
    return None


class _Encoder:
    """Turns nested values into JSON, whose objects stand for what JSON lacks; `leaves` are what goes beside it.

    A tensor that occurs twice, as where trials share a training, is one leaf.
    """

    def __init__(self) -> None:
        self.leaves: list[Tensor | np.ndarray] = []
        self._seen: dict[tuple[Any, ...], int] = {}

    def encode(self, value: Any, path: str) -> Any:
        """The JSON of a value; exact types only, as a subclass would come back as something else."""
        kind = type(value)
        if kind is float and not math.isfinite(value):
            return {"float": struct.pack("<d", value).hex()}  # JSON knows none, and a NaN has bits of its own
        if _is_plain(value):
            return value
        if kind is list:
            return [self.encode(entry, f"{path}.{i}") for i, entry in enumerate(value)]
        if kind is tuple:
            return {"tuple": [self.encode(entry, f"{path}.{i}") for i, entry in enumerate(value)]}
        if kind is dict:
            return {"dict": [self._pair(key, entry, f"{path}.{key}".removeprefix(".")) for key, entry in value.items()]}
        if kind in (Tensor, nn.Parameter) and value.layout is torch.strided and not value.is_quantized:
            return {"tensor": [*self._leaf(value.detach()), str(value.dtype).removeprefix("torch.")]}
        if kind is np.ndarray and not value.dtype.hasobject and value.dtype.fields is None:
            return {"array": [*self._leaf(value), value.dtype.str]}
        if isinstance(value, np.generic) and not value.dtype.hasobject and value.dtype.fields is None:
            return {"scalar": [*self._leaf(np.asarray(value)), value.dtype.str]}
        raise UnstorableError(path, value)

    def _pair(self, key: Any, value: Any, path: str) -> list[Any]:
        if not _is_plain(key):
            raise UnstorableError(path, key)
        return [self.encode(key, path), self.encode(value, path)]

    def _leaf(self, value: Tensor | np.ndarray) -> tuple[int, list[int]]:
        number = len(self.leaves)
        if isinstance(value, Tensor) and value.numel():
            place = (value.device, value.data_ptr(), value.shape, value.stride(), value.dtype)
            number = self._seen.setdefault((*place, value.is_conj(), value.is_neg()), number)
        if number == len(self.leaves):
            self.leaves.append(value)
        return number, list(value.shape)


def _is_plain(value: Any) -> TypeGuard[bool | int | float | str | None]:
    return value is None or type(value) in (bool, int, float, str)


def _decoded(value: Any, tensors: list[Tensor]) -> Any:
    """The value of what `_Encoder.encode` gave."""
    if isinstance(value, list):
        return [_decoded(entry, tensors) for entry in value]
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == "tuple":
        return tuple(_decoded(entry, tensors) for entry in content)
    if kind == "dict":
        return {_decoded(key, tensors): _decoded(entry, tensors) for key, entry in content}
    if kind == "float":
        return struct.unpack("<d", bytes.fromhex(content))[0]
    number, shape, dtype = content
    if kind == "tensor":
        tensor = torch.empty(shape, dtype=getattr(torch, dtype))
        tensor.view(-1).view(torch.uint8).copy_(tensors[number])
        return tensor
    array = np.frombuffer(tensors[number].numpy().tobytes(), dtype=dtype).reshape(shape).copy()
    return array if kind == "array" else array[()]


def _bytes_of(value: Tensor | np.ndarray) -> Tensor:
    """A tensor's or array's bytes (uint8) in row-major order on the CPU, of a tensor without a copy where it can be."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value, order="C").reshape(-1).view(np.uint8))
    flat = value.cpu().resolve_conj().resolve_neg().contiguous().view(-1)
    if flat.stride(0) != 1:  # of none or one entry, where any stride counts as contiguous
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8)


def _apart(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """The tensors, copied where an earlier one lies in the same memory, which safetensors refuses."""
    seen = set()
    for tensor in tensors:
        home = tensor.untyped_storage().data_ptr()
        yield tensor.clone() if home in seen else tensor
        seen.add(home)


def _checksum(structure: str, tensors: Iterable[Tensor]) -> str:
    """A number that any damage changes: CRC-32 of the structure and of every tensor's bytes (uint8), in order."""
    total = zlib.crc32(structure.encode())
    for tensor in tensors:
        total = zlib.crc32(tensor.numpy().data, total)
    return f"{total:08x}"


def _as_os_error(error: Exception, path: Path) -> OSError:
    """What safetensors says of a failed write, as Python says it: with its number, so that a full disk is known."""
    found = re.search(r"os error (\d+)", str(error))
    number = int(found[1]) if found else None
    return OSError(number, os.strerror(number), str(path)) if number else OSError(str(error))
