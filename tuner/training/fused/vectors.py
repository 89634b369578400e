"""WholeVectors: pointwise functions whose last elements torch computes by other code, given whole vectors only.

On the CPU a kernel goes through a contiguous tensor in vectors and does the last few elements one by one; for some
functions that gives other bits. In a stack, those elements would be the last member's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

VECTOR = 64
"""Numbers that are whole vectors for every kind of processor and number: kernels take two of up to 32 at once."""

UNEVEN = frozenset(
    (
        "sigmoid", "sigmoid_backward", "gelu", "gelu_backward", "silu", "silu_backward", "elu", "elu_backward",
        "celu", "selu",
        "softplus", "softplus_backward", "mish", "mish_backward", "pow", "cosh", "exp2", "huber_loss",
        "huber_loss_backward", "smooth_l1_loss", "smooth_l1_loss_backward", "hardswish_backward", "tanh_backward",
        "log_sigmoid_forward", "log_sigmoid_backward", "logaddexp", "logaddexp2", "atan2", "hypot", "atanh", "angle",
        "logit", "logit_backward", "erfinv", "lgamma", "igamma",
    )
)  # fmt: skip
"""torch's functions (aten) that do so, or may; found by computing them on tensors of all lengths."""

REDUCTIONS = frozenset(
    ("sum", "mean", "var", "std", "var_mean", "std_mean", "linalg_vector_norm", "norm", "prod", "nansum")
)
"""Those that add along columns add the last few columns in another order, so members must not lie in the columns."""

NORMS = frozenset(("native_batch_norm", "native_batch_norm_backward"))
"""They do so too for batch x channels, but not where each channel lies by itself in memory."""


class WholeVectors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, computes such functions on copies of whole vectors, and reductions with each member by itself.

    `padded` counts how often that was needed. A convolution's output has the members beside the channels in memory.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.padded = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, _name(func)
        if name in REDUCTIONS and not args[0].is_contiguous():
            self.padded += 1
            return func(args[0].contiguous(), *args[1:], **kwargs)
        if name in NORMS and args[0].numel() == math.prod(args[0].shape[:2]):
            self.padded += 1
            return func(*map(_by_channel, args), **kwargs)
        if name not in UNEVEN:
            return func(*args, **kwargs)
        tensors = [entry for entry in args if isinstance(entry, Tensor)]
        shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))  # type: ignore[no-untyped-call]
        count = math.prod(shape)
        whole = all(tensor.shape == shape and tensor.is_contiguous() for tensor in tensors)
        if (whole and count % VECTOR == 0) or _reduces(func, args, kwargs):
            return func(*args, **kwargs)
        self.padded += 1
        return _on_whole(func, args, kwargs, shape, count)


def _name(func: Any) -> str:
    return str(func._schema.name).removeprefix("aten::").rstrip("_")


def _by_channel(value: Any) -> Any:
    """A tensor of batch x channels x ..., laid out channel by channel; anything else as it is."""
    is_batch = isinstance(value, Tensor) and value.dim() > 1
    return value.transpose(0, 1).contiguous().transpose(0, 1) if is_batch else value


def _reduces(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether it is a loss that gives its mean or sum: vmap has taken those apart where there is more than one."""
    for number, argument in enumerate(func._schema.arguments):
        if argument.name == "reduction":
            given = args[number] if number < len(args) else kwargs.get("reduction", argument.default_value)
            return bool(given != 0)
    return False


def _on_whole(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], shape: torch.Size, count: int
) -> Any:
    """The function on flat copies with benign numbers behind them."""
    rest = -count % VECTOR

    def flat(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        values = value.expand(shape).reshape(-1)
        return torch.cat([values, values.new_full((rest,), 0.5)])

    def cut(value: Any) -> Any:
        return value[:count].view(shape) if isinstance(value, Tensor) and value.numel() == count + rest else value

    found = func(*map(flat, args), **{key: flat(value) for key, value in kwargs.items()})
    if func._schema.name.endswith("_"):  # type: ignore[attr-defined]
        return args[0].copy_(cut(found))
    return tuple(map(cut, found)) if isinstance(found, tuple) else cut(found)
