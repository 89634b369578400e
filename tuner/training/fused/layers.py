"""BatchedLayers: layers of a stack of models in forms that a CPU is faster at than at vmap's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C._functorch import (
    _add_batch_dim,
    _remove_batch_dim,
    get_unwrapped,
    is_batchedtensor,
    maybe_get_bdim,
    maybe_get_level,
    peek_interpreter_stack,
)
from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack
from torch.overrides import TorchFunctionMode

SHORT = 12
"""Rows of a product shorter than this many numbers are slow: BLAS works along the rows of its result."""

LEVEL = 1
"""What functorch numbers a vmap with that is within no other of its transforms."""


class BatchedLayers(TorchFunctionMode):
    """While active within a vmap over a stack of models, computes linear layers, batch norms and 2 x 2 averages faster.

    The results are vmap's to rounding. Which form is taken follows from the shapes of one model alone, and none mixes
    the numbers of two, so a model's bits depend neither on how many there are (two or more) nor on its place. All is
    left to vmap on other devices, under autocast, within further transforms, and where a weight is shared by the stack.

    Convolutions are left to vmap, whose grouped form is the fastest: on two Zen 4 cores it reaches 70 to 100 GFLOP/s,
    as much as their GEMM, and neither products with unfolded inputs, one product for each tap, a convolution for each
    member nor channels last is faster over forward and backward together.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        form = _FORMS.get(func)
        if form is None or not args or not _stacked(args[0]) or torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        found = form(*args, **kwargs)
        return func(*args, **kwargs) if found is None else found


def _stacked(*tensors: Tensor | None) -> bool:
    """Whether all that are given hold a value for each model of the stack, in the CPU's memory."""
    return peek_interpreter_stack().level() == LEVEL and all(
        tensor is None
        or (is_batchedtensor(tensor) and maybe_get_level(tensor) == LEVEL and tensor.device.type == "cpu")
        for tensor in tensors
    )


def _whole(tensor: Tensor, dim: int = 0) -> Tensor:
    """The tensor of all models, that which counts them at `dim`."""
    count = get_unwrapped(tensor).shape[maybe_get_bdim(tensor)]
    whole: Tensor = _remove_batch_dim(tensor, LEVEL, count, dim)
    return whole


def _each(whole: Tensor, dim: int = 0) -> Tensor:
    """The other way."""
    tensor: Tensor = _add_batch_dim(whole, dim, LEVEL)
    return tensor


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """`F.linear`, by one product of matrices a model whatever the input's dimensions."""
    if not _stacked(weight, bias) or input.numel() == 0:
        return None
    inputs, weights = _whole(input), _whole(weight)
    biases = None if bias is None else _whole(bias)
    with temporarily_pop_interpreter_stack():  # here torch takes an autograd.Function as it is, at a third of the time
        flat = inputs.reshape(len(inputs), -1, inputs.shape[-1])
        outputs = _Linear.apply(flat, weights, biases).view(*inputs.shape[:-1], -1)  # type: ignore[no-untyped-call]
    return _each(outputs)


class _Linear(torch.autograd.Function):
    """x W^T + b for a stack: models x rows x inputs, models x outputs x inputs and models x outputs, or None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        if bias is None:
            return _product(x, weight.mT).contiguous()
        if weight.shape[1] < SHORT:
            return torch.baddbmm(bias.unsqueeze(2), weight, x.mT).mT.contiguous()
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight).contiguous() if for_x else None,  # what follows is slow on mixed layouts
            _product(gradient.mT, x) if for_weight else None,
            gradient.sum(dim=1) if for_bias else None,
        )


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The matrix products a b, where b has few columns as the transpose of b^T a^T."""
    return (b.mT @ a.mT).mT if b.shape[-1] < SHORT else a @ b


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *settings: Any,
    **named: Any,
) -> Tensor | None:
    """`F.batch_norm`, with the models' channels side by side; vmap's scales and shifts in passes of their own."""
    vectors = (running_mean, running_var, weight, bias)
    if not _stacked(*vectors):
        return None
    inputs = _whole(input, dim=1)  # batch x models x channels x ...
    rows = [None if vector is None else _whole(vector).view(-1) for vector in vectors]  # averages change in place
    with temporarily_pop_interpreter_stack():
        outputs = F.batch_norm(inputs.flatten(1, 2), *rows, *settings, **named).view(inputs.shape)
    return _each(outputs, dim=1)


def _avg_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, *settings: Any, **named: Any) -> Tensor | None:
    """`F.avg_pool2d` over 2 x 2 pixels and of even sides: rows are added first, which lie one after the other."""
    sizes = {_pair(kernel_size), _pair(kernel_size if stride is None or stride == [] else stride)}
    if sizes != {(2, 2)} or any(side % 2 for side in input.shape[-2:]) or settings or named:
        return None
    rows = input[..., ::2, :] + input[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _pair(size: Any) -> tuple[int, int]:
    """Height and width of a size that is given as one number, or as one or two in a sequence."""
    sizes = (size,) if isinstance(size, int) else tuple(size)
    return sizes[0], sizes[-1]


_FORMS: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    F.linear: _linear,
    F.batch_norm: _batch_norm,
    F.avg_pool2d: _avg_pool2d,
}
