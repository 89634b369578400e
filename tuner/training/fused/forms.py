"""Forms: operations in the form that torch's CPU kernels are quick at, found by measurement.

A kernel takes 8 or 16 numbers of a row at once. Where rows are shorter, such as those of ten classes, it takes them one
by one, and is up to seven times as fast across the rows. Whether a form applies does not depend on how many members a
stack has.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

NARROW = 12
"""Rows of fewer numbers than these are taken across."""

MANY_ROWS = 16
"""So many rows at least: fewer are not worth the copies."""


def is_narrow(tensor: Tensor, *arguments: Any) -> bool:
    """Whether a function of rows is asked for many narrow ones (`arguments` end in their dimension and one more)."""
    dimension = arguments[-2] % tensor.dim() if tensor.dim() else 0
    return tensor.dim() > 2 and dimension == tensor.dim() - 1 and _is_many(tensor.shape[-2], tensor.shape[-1])


def across(own: Any, *arguments: Any) -> Tensor:
    """A function of rows, computed across them: the tensors, the dimension, one argument more."""
    *tensors, _, last = arguments
    turned = [tensor.transpose(-2, -1).contiguous() for tensor in tensors]
    result: Tensor = own(*turned, turned[0].dim() - 2, last)
    return result.transpose(-2, -1).contiguous()


def is_slow_product(first: Tensor, second: Tensor) -> bool:
    """Whether a product has many narrow rows, or will be wanted transposed."""
    return _is_many(first.shape[1], second.shape[2]) or _of_turned(first, second)


def _of_turned(first: Tensor, second: Tensor) -> bool:
    """Whether a product is of a transposed matrix with one that is not, as for the gradient of a layer's weights.

    torch hands on its transpose, which is to lie in rows then.
    """
    return first.stride(1) == 1 and first.stride(2) > 1 and second.stride(2) == 1


def turned(own: Any, first: Tensor, second: Tensor) -> Tensor:
    """A product by that of the transposed matrices; one of narrow rows lies in rows all the same."""
    result: Tensor = own(second.transpose(1, 2), first.transpose(1, 2)).transpose(1, 2)
    return result if _of_turned(first, second) else result.contiguous()


def _is_many(rows: int, width: int) -> bool:
    return width < NARROW and rows >= MANY_ROWS
