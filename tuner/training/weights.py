"""Weights on disk: safetensors with the recipe beside them, each file in place at once or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tuner.errors import UsageError
from tuner.files import write_atomically


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write weights to a `.safetensors` file; a reader sees the old file or the new one, never half of one."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    write_atomically(path, save(plain, metadata=dict(metadata)))


def load_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a `.safetensors` file on the CPU; `UsageError` where it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"the weights cannot be read: {error}", place=str(path)) from None
    return weights


def copy_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of the tensors of a model's `state_dict`, on the model's device; other extra state is left out."""
    state = model.state_dict()
    return {name: tensor.detach().clone() for name, tensor in state.items() if isinstance(tensor, Tensor)}
