"""Whole vectors: a member's bits are the same whatever stack it is in, and wherever in it (on the CPU).

torch's CPU kernels take a tensor in vectors of numbers. What is left at its end, fewer than two vectors, some of them
compute by other code that rounds otherwise: of a stack, that is the last member's. A few kernels are chosen, or add, by
the size of the whole stack. Which operators do was found by experiment; the tests repeat it for all of torch's.

Each of these has a remedy here, which is put in its way within `WholeVectors`: it then gives every number as the
vector code does, or as it would in a larger stack. Two things are taken for granted. All runs on one thread of torch's
(several share a tensor by its size), and MKL is in its reproducible mode (`MKL_CBWR=AUTO` in the environment before it
is first used), as its products depend on where a matrix lies in memory otherwise.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

NUMBERS = 64
"""So many numbers are whole in vectors of every type, also where two vectors are taken at once (64 bytes each)."""

CHANNELS = 8
"""oneDNN has another grouped convolution of float32 for fewer channels than these, of all groups together."""

POINTWISE = (
    "atan2 atanh cosh elu elu_backward exp2 gelu gelu_backward huber_loss_backward hypot igamma logaddexp logaddexp2 "
    "logit mish mish_backward pow sigmoid silu silu_backward sinh smooth_l1_loss_backward softplus softplus_backward "
    "softshrink special_i0e"
).split()
"""The operators that treat the end of a tensor otherwise; each stands for its in-place form, too."""

REDUCTIONS = ("logsumexp", "mean.dim", "nansum", "sum.dim_IntList")
"""The operators that add up numbers in an order that depends on how many sums lie side by side."""

_KEY = "BackendSelect"
"""A dispatch key that every call passes, below vmap and autograd and just above the kernels; torch hardly uses it."""

_BELOW = torch._C._dispatch_keyset_full_after(torch._C.DispatchKey.BackendSelect)

Own = Callable[..., Any]
"""torch's own kernel of an operator."""


class _Here(threading.local):
    """How many `WholeVectors` this thread is within."""

    depth = 0


_here = _Here()


class WholeVectors:
    """A context in which the operators above treat all members alike, on the thread that enters it.

    The first one made puts Python code in the way of these operators, for good and on all threads: a call costs some
    microseconds more from then on. So make it where nothing else trains at that moment; entering it costs nothing.
    """

    def __init__(self) -> None:
        _install()

    def __enter__(self) -> None:
        _here.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _here.depth -= 1


@functools.cache
def _install() -> torch.library.Library:
    """Put the remedies in the way, once in a process; they go when what this returns is collected."""
    library = torch.library.Library("aten", "IMPL")
    for name, remedy in _remedies().items():
        packet, _, overload = name.partition(".")
        operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
        library.impl(name, _in_the_way(operator, remedy), _KEY, with_keyset=True)
    return library


def _remedies() -> dict[str, Callable[..., Any]]:
    """The remedy of every operator, by its full name in aten."""
    remedies: dict[str, Callable[..., Any]] = dict.fromkeys(REDUCTIONS, _reduction)
    for name, remedy in itertools.chain(
        ((name, _pointwise) for name in POINTWISE), ((f"{name}_", _in_place) for name in POINTWISE)
    ):
        packet = getattr(torch.ops.aten, name, None)
        for overload in packet.overloads() if packet else ():
            if not any(argument.is_out for argument in getattr(packet, overload)._schema.arguments):
                remedies[name if overload == "default" else f"{name}.{overload}"] = remedy
    return remedies | {
        "huber_loss_backward": _loss_backward,
        "smooth_l1_loss_backward": _loss_backward,
        "native_batch_norm_backward": _batch_norm_backward,
        "convolution": _convolution,
        "convolution_backward": _convolution_backward,
    }


def _in_the_way(operator: torch._ops.OpOverload, remedy: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that calls `remedy` within `WholeVectors`, and torch's own elsewhere."""

    def kernel(keys: torch._C.DispatchKeySet, *arguments: Any, **options: Any) -> Any:
        own = functools.partial(operator.redispatch, keys & _BELOW)
        if _here.depth and keys.has(torch._C.DispatchKey.CPU):
            return remedy(own, *arguments, **options)
        return own(*arguments, **options)

    return kernel


def _pointwise(own: Own, *arguments: Any, **options: Any) -> Any:
    """Compute the last numbers once more, as whole vectors.

    Operands of other shapes or layouts are laid out alike first: each row of one that is broadcast has an end, too.
    """
    tensors = [value for value in arguments if _has_rows(value)]
    if not tensors:
        return own(*arguments, **options)
    shape = tensors[0].shape
    if not all(tensor.is_contiguous() and tensor.shape == shape for tensor in tensors):
        shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
        arguments = tuple(value.expand(shape).contiguous() if _has_rows(value) else value for value in arguments)
    if shape.numel() % NUMBERS == 0:
        return own(*arguments, **options)
    last = [_last(value) if _has_rows(value) else value for value in arguments]
    result: Tensor = own(*arguments, **options)
    ends: Tensor = own(*last, **options)
    result.view(-1)[-NUMBERS:].copy_(ends[: shape.numel()])
    return result


def _has_rows(value: object) -> bool:
    """Whether an argument is a tensor of numbers side by side; one of dimension 0 goes to all others as it is."""
    return isinstance(value, Tensor) and value.dim() > 0


def _last(tensor: Tensor) -> Tensor:
    """A copy of the last `NUMBERS` numbers; where there are fewer, the first stands behind them."""
    flat = tensor.view(-1)
    return torch.cat((flat[-NUMBERS:], flat[:1].expand(max(0, NUMBERS - len(flat)))))


def _in_place(own: Own, changed: Tensor, *arguments: Any, **options: Any) -> Tensor:
    result: Tensor = _pointwise(own, changed, *arguments, **options)
    return changed if result is changed else changed.copy_(result)


def _loss_backward(own: Own, gradient: Tensor, output: Tensor, target: Tensor, reduction: int, bound: float) -> Any:
    """`_pointwise` where the loss is a number a sample; a mean would know their count."""
    if reduction:
        return own(gradient, output, target, reduction, bound)
    return _pointwise(own, gradient, output, target, reduction, bound)


def _reduction(own: Own, tensor: Tensor, *arguments: Any, **options: Any) -> Any:
    """Lay the members one behind the other, where they lie side by side within what is added up.

    Of tensors in a stack whose order in memory is another, vmap has the member's dimension first.
    """
    if not tensor.is_contiguous() and tensor.dim() > 1:
        within = any(size > 1 and stride > tensor.stride(0) for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        if within:
            tensor = tensor.contiguous()
    return own(tensor, *arguments, **options)


def _batch_norm_backward(own: Own, gradient: Tensor, input: Tensor, *arguments: Any) -> Any:
    """Lay samples that are one number a channel (samples x channels) out as channels x samples.

    Else the channels of all members make the rows that are taken in vectors.
    """
    samples, channels = input.shape[:2]
    if input.numel() > samples * channels:
        return own(gradient, input, *arguments)

    def turned(tensor: Tensor) -> Tensor:
        return tensor.reshape(samples, channels).t().unsqueeze(0).contiguous()

    found, *others = own(turned(gradient), turned(input), *arguments)
    return found if found is None else found[0].t().reshape(input.shape).contiguous(), *others


def _convolution(own: Own, input: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Any:
    """Repeat the groups, where all of them together have few channels."""
    *others, transposed, padding, groups = arguments
    times = _times(input, groups)
    if transposed or times == 1:
        return own(input, weight, bias, *arguments)
    bias = bias if bias is None else bias.repeat(times)
    rest = (*others, transposed, padding, groups * times)
    result: Tensor = own(_along_channels(input, times), _along_groups(weight, times), bias, *rest)
    return result[:, : weight.shape[0]].contiguous()


def _convolution_backward(
    own: Own, gradient: Tensor, input: Tensor, weight: Tensor, bias_sizes: list[int] | None, *arguments: Any
) -> Any:
    """`_convolution`, which the gradient of a transposed convolution's input is."""
    *others, transposed, padding, groups, mask = arguments
    times = _times(gradient, groups)
    if not transposed or times == 1:
        return own(gradient, input, weight, bias_sizes, *arguments)
    rest = (*others, transposed, padding, groups * times, mask)
    given = (_along_channels(gradient, times), _along_channels(input, times), _along_groups(weight, times))
    sizes = bias_sizes and [size * times for size in bias_sizes]
    of_input, of_weight, of_bias = own(*given, sizes, *rest)
    return (
        of_input if of_input is None else of_input[:, : input.shape[1]].contiguous(),
        of_weight if of_weight is None else of_weight[: weight.shape[0]].contiguous(),
        of_bias if of_bias is None else of_bias[: gradient.shape[1]].contiguous(),
    )


def _times(tensor: Tensor, groups: int) -> int:
    """How often the groups are to be repeated for `CHANNELS` channels."""
    few = groups > 1 and tensor.dtype == torch.float32 and tensor.shape[1] < CHANNELS
    return -(-CHANNELS // tensor.shape[1]) if few else 1


def _along_channels(tensor: Tensor, times: int) -> Tensor:
    return tensor.repeat(1, times, *[1] * (tensor.dim() - 2))


def _along_groups(tensor: Tensor, times: int) -> Tensor:
    return tensor.repeat(times, *[1] * (tensor.dim() - 1))
