"""Precision: in which arithmetic a model is computed; weights and optimizer always keep their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def forward_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """For a forward pass and its losses: `bf16` is `torch.autocast` to bfloat16."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@contextmanager
def matrices_in(precision: str, device: torch.device) -> Iterator[None]:
    """For forward and backward: `tf32` lets an NVIDIA GPU multiply float32 matrices with 10 bits of mantissa.

    On other devices it changes nothing.
    """
    if precision != "tf32" or device.type != "cuda":
        yield
        return
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32
    matmul.allow_tf32 = convolution.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = before
