"""MemberDropout: dropout under vmap that every member draws from a key of its own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

KEY_RANGE = 2**32
"""Keys are drawn from [0, KEY_RANGE)."""

SELU_SATURATION = 1.7580993408473766
"""Minus what SELU tends to for small inputs (Klambauer et al., Self-Normalizing Neural Networks, 2017)."""


class MemberDropout(TorchFunctionMode):
    """While active around one forward pass, draws the model's dropout from `key` instead of torch's generators.

    `drawn` counts the elements drawn so far. Under `vmap`, `key` is each member's own (scalar, int64 in
    [0, KEY_RANGE)). Keys are to look random, as those of `seed_for` do: the masks of numbers counted up would be alike.
    Which elements are dropped depends on the key, on how many elements the pass dropped from before and on the
    element's place (row by row) alone: not on the number of members, on the others, on the tensor's kind or on the
    device.

    All of dropout in `torch.nn.functional` and `torch.nn` is drawn so, `MultiheadAttention` and
    `scaled_dot_product_attention` too; `p` may be each member's own (scalar, float64 to be exact). What draws inside
    torch's C++ (the dropout of `nn.LSTM`, `torch.native_dropout`) and all other randomness is left to vmap, which
    raises. Under a vmap of the model's own, all of its inputs share a mask.
    """

    def __init__(self, key: Tensor) -> None:
        super().__init__()
        self._key = key.to(torch.int32)  # the low 32 bits
        self.drawn = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        drawing = _DRAWING.get(func)
        drawn = drawing(self, func, *args, **kwargs) if drawing else None
        return func(*args, **kwargs) if drawn is None else drawn

    def kept(self, shape: torch.Size, p: float | Tensor, like: Tensor) -> Tensor:
        """1 where an element is kept, with probability 1 - p in steps of 2**-31, else 0 (`shape`; dtype of `like`).

        An element's hash is (a ^ key) * b mod 2**32 with two random words of its own, b odd: the multiply-shift hash
        (Dietzfelbinger et al., A Reliable Randomized Algorithm for the Closest-Pair Problem, 1997) with counters for
        its words (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011). Time goes into passes over memory
        here, so it is all done in place, and comparisons, whose booleans are slow to convert, are a shift of the sign.
        """
        count = math.prod(shape)
        places = slice(self.drawn, self.drawn + count)
        self.drawn += count
        offsets, factors = _words(max(16, (self.drawn - 1).bit_length()), like.device)
        bits = (offsets[places].view(shape) ^ self._key).mul_(factors[places].view(shape))
        bits >>= 1  # room for the sign of a difference
        bits.sub_(_threshold(p))
        bits >>= 31  # all ones where it is negative
        bits &= _ONE
        return bits.view(torch.float32).to(like.dtype)


_ONE = 0x3F800000
"""The bits of a float32 of 1."""


def tables_made() -> int:
    """How many tables of random words were made so far in this process."""
    return _words.cache_info().misses


@functools.cache
def _words(log2_count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two random words for each of 2**log2_count elements, 16 or more; the second are odd (elements, int32 each).

    Larger tables begin with the smaller ones, which are kept as a CUDA graph may hold on to them.
    """
    count, block = 2**log2_count, 2**16  # blocks bound the memory that int64 takes meanwhile
    words = torch.empty(2, count, dtype=torch.int32, device=device)
    for first in range(0, count, block):
        counter = torch.arange(2 * first, 2 * (first + block), device=device)
        words[:, first : first + block] = (_mixed(counter) - 2**31).view(-1, 2).T
    return words[0], words[1].bitwise_or_(1)


def _mixed(x: Tensor) -> Tensor:
    """A one-to-one map of [0, 2**32) that looks random, in int64 (the constants are Wellons's, hash-prospector)."""
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x735A2D97) & 0xFFFFFFFF
    return x ^ (x >> 15)


def _threshold(p: float | Tensor) -> int | Tensor:
    """What a uniform number from [-2**30, 2**30) lies below with probability 1 - p."""
    if isinstance(p, Tensor):
        return ((0.5 - p) * 2**31).round().to(torch.int32)
    return round((0.5 - p) * 2**31)


def _scale(p: float | Tensor, alpha: bool = False) -> float | Tensor:
    """What keeps the mean, or the variance of alpha dropout; 0 where all is dropped."""
    if isinstance(p, Tensor):
        scale = ((1 - p) * (1 + SELU_SATURATION**2 * p)).rsqrt() if alpha else 1 / (1 - p)
        return torch.where(p < 1, scale, 0.0)
    if p == 1:
        return 0.0
    return 1 / math.sqrt((1 - p) * (1 + SELU_SATURATION**2 * p)) if alpha else 1 / (1 - p)


def _cast(number: float | Tensor, like: Tensor) -> float | Tensor:
    return number.to(like.dtype) if isinstance(number, Tensor) else number


def _draws(p: float | Tensor) -> bool:
    """Whether there is something to draw; torch itself says what is wrong with numbers out of [0, 1]."""
    return isinstance(p, Tensor) or 0 < p <= 1


def _dropout(
    mode: MemberDropout,
    func: Callable[..., Tensor],
    input: Tensor,
    p: float | Tensor,
    training: bool = False,
    inplace: bool = False,
    *,
    train: bool = False,
) -> Tensor | None:
    """What `func`, one of torch's dropouts, gives for these arguments of it; None if it draws nothing."""
    if not (training or train) or not _draws(p):
        return None
    shape = input.shape
    if func in _OF_CHANNELS:
        func(input, 0.0, True)  # torch's own checks and warnings
        leading = 1 if input.dim() == _UNBATCHED.get(func) else 2
        shape = torch.Size([*shape[:leading], *[1] * (input.dim() - leading)])
    p = p.double() if isinstance(p, Tensor) else p
    scale = _scale(p, alpha=func in _ALPHA)
    factor = mode.kept(shape, p, input).mul_(_cast(scale, input))
    if func in _ALPHA:  # what is dropped becomes the saturation of SELU, then all is scaled and shifted alike
        shift = _cast(SELU_SATURATION * scale * (1 - p), input)
        result = (input + SELU_SATURATION).mul_(factor).sub_(shift)
    else:
        result = input * factor
    return input.copy_(result) if inplace or func in _IN_PLACE else result


def _attention(
    mode: MemberDropout,
    func: Callable[..., Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float | Tensor = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """What `scaled_dot_product_attention` gives for these arguments of it; None if it draws nothing.

    `query` is ... x queries x width, `key` and `value` ... x keys x width.
    """
    if not _draws(dropout_p):
        return None
    if is_causal:
        if attn_mask is not None:
            raise ValueError("scaled_dot_product_attention: give attn_mask or is_causal, not both")
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if enable_gqa:  # several heads of queries to one of keys and values
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    weights = torch._safe_softmax(scores, -1)  # zeros where all keys are masked, as torch has it
    p = dropout_p.double() if isinstance(dropout_p, Tensor) else dropout_p
    factor = mode.kept(weights.shape, p, weights).mul_(_cast(_scale(p), weights))
    return (weights * factor) @ value


def _multi_head_attention(mode: MemberDropout, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`F.multi_head_attention_forward` with its own dropout drawn by `mode`, which torch would not ask again."""
    with mode:
        return _attention_of_heads(*args, **kwargs)


_attention_of_heads = FunctionType(
    F.multi_head_attention_forward.__code__,
    {**F.multi_head_attention_forward.__globals__, "has_torch_function": lambda tensors: False},
    argdefs=F.multi_head_attention_forward.__defaults__,
)
"""The function with its question, whether a mode is to answer in its place, answered with no."""

_IN_PLACE: set[Callable[..., Any]] = {
    torch.dropout_,
    torch.feature_dropout_,
    torch.alpha_dropout_,
    torch.feature_alpha_dropout_,
}
_ALPHA: set[Callable[..., Any]] = {
    *(F.alpha_dropout, torch.alpha_dropout, torch.alpha_dropout_),
    *(F.feature_alpha_dropout, torch.feature_alpha_dropout, torch.feature_alpha_dropout_),
}
_OF_CHANNELS: set[Callable[..., Any]] = {
    *(F.dropout1d, F.dropout2d, F.dropout3d, torch.feature_dropout, torch.feature_dropout_),
    *(F.feature_alpha_dropout, torch.feature_alpha_dropout, torch.feature_alpha_dropout_),
}
_UNBATCHED: dict[Callable[..., Any], int] = {F.dropout1d: 2, F.dropout3d: 4}
"""The dimensions of an input without those of a batch, where that is allowed."""

_DRAWING: dict[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys((F.dropout, torch.dropout, *_IN_PLACE, *_ALPHA, *_OF_CHANNELS), _dropout),
    F.scaled_dot_product_attention: _attention,
    F.multi_head_attention_forward: _multi_head_attention,
}
