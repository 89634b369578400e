"""The gradient's norm, and bounding it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def clip_gradients(model: nn.Module, bound: float | None) -> Tensor:
    """Scale all gradients so that their joint 2-norm is at most `bound`; gives the norm before (scalar).

    Of a sparse gradient (`nn.Embedding(sparse=True)`) the rows that it has count, each once.
    """
    owners = [parameter for parameter in model.parameters() if parameter.grad is not None]
    if not any(owner.grad is not None and owner.grad.is_sparse for owner in owners):
        if bound is not None:
            return nn.utils.clip_grad_norm_(owners, bound)
        return nn.utils.get_total_norm([owner.grad for owner in owners if owner.grad is not None])
    entries = [_entries(owner) for owner in owners]
    norm = nn.utils.get_total_norm(entries)
    if bound is not None:
        for entry in entries:
            entry.mul_(torch.clamp(bound / (norm + 1e-6), max=1.0))  # torch's own constant
    return norm


def _entries(owner: nn.Parameter) -> Tensor:
    """The numbers of a gradient, as a view: of a sparse one, those of its rows."""
    assert owner.grad is not None
    if owner.grad.is_sparse:
        owner.grad = owner.grad.coalesce()  # a row that occurs twice counts once, and `values` is a view of it
        return owner.grad.values()
    return owner.grad
