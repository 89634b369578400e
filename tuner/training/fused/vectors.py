"""WholeVectors: a member's bits are the same whatever stack it is in, and wherever in it (on the CPU).

torch's CPU kernels take a tensor in vectors of numbers. What is left at its end, fewer than two vectors, some of them
compute by other code that rounds otherwise; of a stack, those numbers are the last member's. A few kernels add in
another order, or are other kernels altogether, by the size of the whole stack. Which operators do so was found by
experiment; the tests repeat it for all of torch's that work number by number.

Each has a remedy here, which gives every number as the vector code does, or as in a larger stack. Some operators are
computed in another form for speed, too (`forms`). Two things are taken for granted. All runs on one of torch's threads,
as several share a tensor by its size. And MKL is in its reproducible mode (`MKL_CBWR=AUTO` in the environment before
its first product of matrices), as the bits of a small product depend on where a matrix begins in memory otherwise; the
mode costs nothing that can be measured.

Not covered: complex numbers, `torch.add` and `torch.sub` of half precision with an `alpha`, and products of a member's
matrix with one that is not stacked (float64 only; a buffer is stacked, what `forward` makes is not).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from tuner.training.fused import forms

NUMBERS = 64
"""So many numbers are whole vectors for every type, also where a kernel takes two at once (2 x 64 bytes)."""

CHANNELS = 8
"""oneDNN takes another grouped convolution of float32 for fewer input channels than these, of all groups together."""

PRODUCTS = 4096
"""torch hands a stack of half-precision products of matrices to oneDNN where it has more multiplications than these."""

POINTWISE = (
    "atan2",
    "atanh",
    "celu",
    "cosh",
    "elu",
    "elu_backward",
    "exp2",
    "gelu",
    "gelu_backward",
    "huber_loss_backward",
    "hypot",
    "igamma",
    "ldexp",
    "logaddexp",
    "logaddexp2",
    "logit",
    "mish",
    "mish_backward",
    "pow",
    "rsqrt",
    "sigmoid",
    "silu",
    "silu_backward",
    "sinh",
    "smooth_l1_loss_backward",
    "softplus",
    "softplus_backward",
    "softshrink",
    "special_i0e",
)
"""The operators that treat the end of a tensor otherwise; each stands for its in-place form, too."""

REDUCTIONS = ("logsumexp", "mean.dim", "nansum", "sum.dim_IntList")
"""The operators that add in an order which depends on how many sums lie side by side."""

ROWS = ("_log_softmax", "_log_softmax_backward_data", "_softmax", "_softmax_backward_data")
"""The functions of rows that are slow for narrow ones."""

Own = Callable[..., Any]
"""torch's own kernel of an operator; takes the operator's arguments."""


@dataclass(frozen=True)
class Remedy:
    """What is done about an operator: `apply` takes torch's own kernel and the arguments, where `applies` to these.

    `always` says that whether it applies does not depend on how many members there are, `plain` that nor does what it
    does: then a recording has that.
    """

    applies: Callable[..., bool]
    apply: Callable[..., Any]
    always: bool = False
    plain: bool = False


class WholeVectors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, on the thread that enters it, operators treat all members of a stack alike."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return remedied(func)(*args, **(kwargs or {}))


LIBRARY = torch.library.Library("tuner", "FRAGMENT")  # type: ignore[no-untyped-call]
"""Operators with their remedies as operators of torch, of the same names."""


def needed(operator: OpOverload, *arguments: Any, **options: Any) -> Remedy | None:
    """An operator's remedy; None where there is none for such arguments, of however many members."""
    for remedy in REMEDIES.get(operator._name.removeprefix("aten::"), ()):
        if not remedy.always or remedy.applies(*arguments, **options):
            return remedy
    return None


REGISTERING = Lock()


def registered(operator: OpOverload) -> OpOverload:
    """An operator with its remedy, as an operator of `LIBRARY`."""
    with REGISTERING:
        return _registered(operator)


@functools.cache
def _registered(operator: OpOverload) -> OpOverload:
    name = operator._name.removeprefix("aten::")
    LIBRARY.define(str(operator._schema).removeprefix("aten::"))  # type: ignore[no-untyped-call]
    LIBRARY.impl(name, remedied(operator), "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    packet, _, overload = name.partition(".")
    found: OpOverload = getattr(getattr(torch.ops.tuner, packet), overload or "default")
    return found


@functools.cache
def remedied(operator: Any) -> Own:
    """An operator of aten with its remedies; itself where it needs none."""
    remedies = REMEDIES.get(operator.name().removeprefix("aten::"))
    if remedies is None:
        return operator  # type: ignore[no-any-return]

    def computed(*arguments: Any, **options: Any) -> Any:
        for remedy in remedies:
            if remedy.applies(*arguments, **options):
                return remedy.apply(operator, *arguments, **options)
        return operator(*arguments, **options)

    return computed


def _overloads(name: str) -> list[str]:
    """The names of an operator's overloads, but for those that are told where to write."""
    packet = getattr(torch.ops.aten, name, None)
    operators = [getattr(packet, overload) for overload in packet.overloads()] if packet else []
    return [
        operator.name().removeprefix("aten::")
        for operator in operators
        if not any(argument.is_out for argument in operator._schema.arguments)
    ]


# Number by number: the last numbers are computed once more, as whole vectors.


def pointwise(own: Own, *arguments: Any, **options: Any) -> Tensor:
    """Operands of other shapes or layouts are laid out alike first: each row of one that is broadcast has an end."""
    places = [place for place, value in enumerate(arguments) if isinstance(value, Tensor)]
    given, ends = list(arguments), list(arguments)
    for place, tensor in zip(places, laid_out([arguments[place] for place in places]), strict=True):
        given[place], ends[place] = tensor, end_of(tensor)
    result: Tensor = own(*given, **options)
    return mended(result, own(*ends, **options)) if result.numel() % NUMBERS else result


# These three are parts of scripts, too, which know no `NUMBERS`.


def laid_out(tensors: list[Tensor]) -> list[Tensor]:
    """Tensors in the one shape that they make together, without gaps; those of dimension 0 as they are."""
    with_rows: list[Tensor] = []
    for tensor in tensors:
        if tensor.dim() > 0:
            with_rows.append(tensor)
    if len(with_rows) > 1:
        with_rows = torch.ops.aten.broadcast_tensors(with_rows)
    found: list[Tensor] = []
    place = 0
    for tensor in tensors:
        if tensor.dim() > 0:
            found.append(with_rows[place].contiguous())
            place += 1
        else:
            found.append(tensor)
    return found


def end_of(tensor: Tensor) -> Tensor:
    """The last 64 numbers of a tensor without gaps; where there are fewer, the first is repeated behind them."""
    if tensor.dim() == 0:
        return tensor
    flat = tensor.view(-1)
    missing = 64 - flat.numel()
    if missing <= 0 or missing == 64:
        return flat[-64:].clone()
    return torch.cat([flat, flat[:1].expand([missing])])


def mended(result: Tensor, end: Tensor) -> Tensor:
    """A result whose last numbers are taken from what its operands' ends gave."""
    if result.dim() > 0:
        result.view(-1)[-64:].copy_(end[: result.numel()])
    return result


def _pointwise_in_place(own: Own, changed: Tensor, *arguments: Any, **options: Any) -> Tensor:
    result = pointwise(own, changed, *arguments, **options)
    return changed if result is changed else changed.copy_(result)


def _has_rows_among(*arguments: Any, **options: Any) -> bool:
    return any(map(_has_rows, arguments))


def _has_rows(value: object) -> bool:
    """Whether an argument is a tensor of numbers side by side; one of dimension 0 meets all the others as it is."""
    return isinstance(value, Tensor) and value.dim() > 0


# Sums: where the members lie side by side within what is added up, they are laid out one by one.


def _side_by_side(tensor: Tensor, *arguments: Any, **options: Any) -> bool:
    """So it is after a convolution or BatchNorm; of vmap's dimensions, the members' is the first nevertheless."""
    return not tensor.is_contiguous() and any(
        size > 1 and stride > tensor.stride(0) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )


def _one_by_one(own: Own, tensor: Tensor, *arguments: Any, **options: Any) -> Any:
    return own(tensor.contiguous(), *arguments, **options)


# BatchNorm: numbers of one channel are laid out in a row. Where a sample is one number a channel, the channels of all
# members make a row that is taken in vectors otherwise.


def _not_in_rows(input: Tensor, *arguments: Any) -> bool:
    return not input.is_contiguous() or _are_single(input)


def _not_in_rows_back(gradient: Tensor, input: Tensor, *arguments: Any) -> bool:
    return _not_in_rows(gradient) or _not_in_rows(input)


def _in_rows(own: Own, input: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    output, *others = own(_as_rows(input), *arguments)
    return _from_rows(output, input.shape), *others


def _in_rows_back(own: Own, gradient: Tensor, input: Tensor, *arguments: Any) -> tuple[Tensor | None, ...]:
    found, *others = own(_as_rows(gradient), _as_rows(input), *arguments)
    return None if found is None else _from_rows(found, input.shape), *others


def _are_single(input: Tensor) -> bool:
    return input.numel() == input.shape[0] * input.shape[1]


def _as_rows(tensor: Tensor) -> Tensor:
    """Samples x channels as 1 x channels x samples; samples of more numbers as they are, without gaps."""
    return (tensor.reshape(tensor.shape[:2]).t().unsqueeze(0) if _are_single(tensor) else tensor).contiguous()


def _from_rows(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    return tensor if tensor.shape == shape else tensor[0].t().reshape(shape).contiguous()


# Kernels that are chosen by the size of the stack: its members are repeated, up to the size of a large one.


def _are_half(*arguments: Tensor, **options: Any) -> bool:
    return arguments[-1].dtype in (torch.bfloat16, torch.float16)


def _enough_products(own: Own, *arguments: Tensor, **options: Any) -> Tensor:
    first, second = arguments[-2:]
    times = PRODUCTS // max(1, first.numel() * second.shape[2]) + 1
    if times == 1 or not first.numel():
        result: Tensor = own(*arguments, **options)
        return result
    added = [tensor.expand(len(first), first.shape[1], second.shape[2]) for tensor in arguments[:-2]]
    result = own(*(tensor.repeat(times, 1, 1) for tensor in (*added, first, second)), **options)
    return result[: len(first)].contiguous()


def _few_channels(input: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> bool:
    *_, transposed, _, groups = arguments
    return not transposed and _are_few(input, groups)


def _more_channels(own: Own, input: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    times = -(-CHANNELS // input.shape[1])
    given = (_repeated(input, times, dim=1), _repeated(weight, times), bias if bias is None else bias.repeat(times))
    result: Tensor = own(*given, *arguments[:-1], arguments[-1] * times)
    return result[:, : weight.shape[0]].contiguous()


def _few_channels_back(gradient: Tensor, *arguments: Any) -> bool:
    """The gradient of a transposed convolution's input is a convolution of the output's gradient."""
    *_, transposed, _, groups, _ = arguments
    return transposed and _are_few(gradient, groups)


def _more_channels_back(
    own: Own, gradient: Tensor, input: Tensor, weight: Tensor, bias_sizes: Sequence[int] | None, *arguments: Any
) -> tuple[Tensor | None, ...]:
    *others, groups, mask = arguments
    times = -(-CHANNELS // gradient.shape[1])
    given = (_repeated(gradient, times, dim=1), _repeated(input, times, dim=1), _repeated(weight, times))
    sizes = None if bias_sizes is None else [size * times for size in bias_sizes]
    of_input, of_weight, of_bias = own(*given, sizes, *others, groups * times, mask)
    return (
        None if of_input is None else of_input[:, : input.shape[1]].contiguous(),
        None if of_weight is None else of_weight[: weight.shape[0]].contiguous(),
        None if of_bias is None else of_bias[: gradient.shape[1]].contiguous(),
    )


def _are_few(tensor: Tensor, groups: int) -> bool:
    return groups > 1 and tensor.dtype == torch.float32 and tensor.shape[1] < CHANNELS


def _repeated(tensor: Tensor, times: int, dim: int = 0) -> Tensor:
    return torch.cat([tensor] * times, dim)


def _is_no_product(base: Any, exponent: Any) -> bool:
    """Squares are products, which are the same everywhere."""
    return exponent not in (1, 2)


_POINTWISE = (Remedy(_has_rows_among, pointwise),)
_IN_PLACE = (Remedy(_has_rows_among, _pointwise_in_place),)
_LOSS = (Remedy(lambda *arguments: arguments[3] == 0, pointwise, always=True),)  # a mean knows how many there are
_HALF = Remedy(_are_half, _enough_products, always=True)

REMEDIES: dict[str, tuple[Remedy, ...]] = {
    **{operator: _POINTWISE for name in POINTWISE for operator in _overloads(name)},
    **{operator: _IN_PLACE for name in POINTWISE for operator in _overloads(f"{name}_")},
    "pow.Tensor_Scalar": (Remedy(_is_no_product, pointwise, always=True),),
    "pow_.Scalar": (Remedy(_is_no_product, _pointwise_in_place, always=True),),
    **dict.fromkeys(("huber_loss_backward", "smooth_l1_loss_backward"), _LOSS),
    **dict.fromkeys(REDUCTIONS, (Remedy(_side_by_side, _one_by_one, always=True, plain=True),)),
    "bmm": (_HALF, Remedy(forms.is_slow_product, forms.turned, always=True, plain=True)),
    "baddbmm": (_HALF,),
    **dict.fromkeys(ROWS, (Remedy(forms.is_narrow, forms.across, always=True, plain=True),)),
    "native_batch_norm": (Remedy(_not_in_rows, _in_rows, always=True),),
    "native_batch_norm_backward": (Remedy(_not_in_rows_back, _in_rows_back, always=True),),
    "convolution": (Remedy(_few_channels, _more_channels),),
    "convolution_backward": (Remedy(_few_channels_back, _more_channels_back),),
}
"""The remedies, by an operator's name in aten with its overload; the first that applies is taken."""
