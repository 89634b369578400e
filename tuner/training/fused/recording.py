"""Recording: what a function of tensors computes, as a list of torch's operations that is run again without the rest.

Most of the time of a small model's step goes into what stands around its arithmetic: calling modules, vmap, autograd.
What comes out below all that is the same operations step by step, so they are noted once and then run by themselves.
A recording made for one number of rows serves any, where two of them differ in nothing but multiples of that number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._functorch.autograd_function import custom_function_call
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.weak import WeakIdKeyDictionary

from tuner.training.fused.vectors import WholeVectors, needed, registered

aten = torch.ops.aten

ALIASES = frozenset(("aten::detach", "aten::alias"))
"""Operations that give their argument, as far as numbers are concerned."""

READERS = frozenset(
    (Tensor.item, Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__bool__, Tensor.__int__, Tensor.__float__)
)
"""What brings numbers into Python past the operations."""

READS = frozenset(("aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::nonzero"))
"""Operations that bring numbers into Python, or make shapes of them: what follows may be another thing next time."""


@dataclass(frozen=True)
class Value:
    """A tensor among a recording's: what its `number`th operation gave, its `entry`th where that gives several.

    Operations count from 0; inputs are -1, -2, ... by their place from 0.
    """

    number: int
    entry: int = 0


@dataclass(frozen=True)
class Call:
    """An operator with its arguments: `Value`s for tensors, other tensors as they are. `several`: it gives a tuple."""

    function: OpOverload
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    several: bool


ANY = 0
"""The `rows` of a recording that serves any number of them."""


@dataclass(frozen=True)
class Recording:
    """The operations that lead from tensors with `rows` rows to `outputs` (None where there is no tensor).

    They write the inputs at the places `written`.
    """

    rows: int
    calls: Sequence[Call]
    outputs: Sequence[Value | None]
    written: frozenset[int]


class UnrecordableError(Exception):
    """Says that a function does what a list of operations cannot do again; what it did give are `outputs`."""

    def __init__(self, reason: str, outputs: list[Any]) -> None:
        super().__init__(reason)
        self.outputs = outputs


class Recorder(WholeVectors):
    """Notes the operations of a block, whose inputs are `inputs`; `on_cpu`, members' bits are kept within it, too."""

    def __init__(self, inputs: Sequence[Tensor], on_cpu: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._on_cpu = on_cpu
        self.calls: list[Call] = []
        self.unrecordable, self._within_remedy = "", False
        self._constants: set[int] = set()
        self._values = WeakIdKeyDictionary()
        self.written: set[int] = set()
        self._places: dict[int, list[int]] = {}
        for place, tensor in enumerate(inputs):
            self._values[tensor] = Value(-1 - place)
            self._places.setdefault(_storage(tensor), []).append(place)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, func._schema.name
        if name in READS:
            self.unrecordable = f"it reads numbers: {name}"
        remedy = needed(func, *args, **kwargs) if self._on_cpu else None
        if remedy is not None and remedy.plain and not self._within_remedy:
            return self._apply(remedy.apply, func, *args, **kwargs)
        function = func if remedy is None or self._within_remedy else registered(func)
        arguments, options = tree_map(self._noted, (args, kwargs))
        for storage in map(_storage, _written(func, args, kwargs)):
            self.written.update(self._places.get(storage, ()))
            if storage in self._constants:
                self.unrecordable = f"it changes what is none of its tensors: {name}"
        result = function(*args, **kwargs)
        if name == "aten::lift_fresh":  # a constant made in Python: the next time it must be as fresh
            function, arguments = aten.clone.default, (result.clone(),)
            self._constants.discard(_storage(result))
        elif name in ALIASES or _is_the_same(func, args, result):
            if isinstance(arguments[0], Value):
                self._values[result] = arguments[0]
            return result
        several = isinstance(result, (tuple, list))
        number = len(self.calls)
        self.calls.append(Call(function, arguments, options, several))
        for entry, tensor in enumerate(result if several else [result]):
            if isinstance(tensor, Tensor):
                self._values[tensor] = Value(number, entry)
        return result

    def _apply(self, remedy: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What a remedy does, note by note."""
        self._within_remedy = True
        try:
            with self:
                return remedy(*arguments, **options)
        finally:
            self._within_remedy = False

    def _noted(self, argument: Any) -> Any:
        if not isinstance(argument, Tensor):
            return argument
        if argument in self._values:
            return self._values[argument]
        self._constants.add(_storage(argument))
        return argument.detach()

    def knows(self, tensor: Tensor) -> bool:
        """Whether a tensor is an input, or an operation gave it."""
        return tensor in self._values

    def value_of(self, tensor: Tensor) -> Value:
        """Where a tensor that it knows comes from."""
        found: Value = self._values[tensor]
        return found


CHANGED_AVERAGES = slice(3, 5)
"""The arguments of `native_batch_norm` that it changes, of which its schema is silent."""


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an operation changes."""
    if func is aten.native_batch_norm.default:
        return [value for value in args[CHANGED_AVERAGES] if isinstance(value, Tensor)]
    if not func._schema.is_mutable:
        return []
    given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
    written = [given.get(argument.name) for argument in func._schema.arguments if argument.is_write]
    return [leaf for leaf in tree_flatten(written)[0] if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Reading(TorchFunctionMode):
    """Tells a recorder of numbers that are read in ways which are no operations.

    It does not see into the `vmap` of an `autograd.Function`, which says `recordable = True` where it reads none.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in READERS:
            self._recorder.unrecordable = f"it reads numbers: {getattr(func, '__name__', func)}"
        if func is custom_function_call and not (args[0].generate_vmap_rule or getattr(args[0], "recordable", False)):
            self._recorder.unrecordable = f"{args[0].__name__} has a vmap of its own, where it may read numbers"
        return func(*args, **(kwargs or {}))


def _is_the_same(func: Any, args: tuple[Any, ...], result: Any) -> bool:
    """Whether a view is of the whole tensor and of the form that it has."""
    if not (func.is_view or func is aten._unsafe_view.default) or not isinstance(result, Tensor):
        return False
    forms = ((one.shape, one.stride(), one.dtype, one.data_ptr()) for one in (args[0], result))
    return next(forms) == next(forms)


@dataclass(frozen=True)
class Rows:
    """An integer that is `times` the number of rows."""

    times: int


def recorded(
    function: Callable[..., list[Tensor | None]], inputs: Sequence[Tensor], on_cpu: bool = True
) -> tuple[list[Any], Recording]:
    """What a function of tensors with equally many rows gives, and its recording; they lie on the CPU, or on another.

    Raises `UnrecordableError` where its operations alone do not tell what it does.
    """
    with Recorder(inputs, on_cpu) as recorder, _Reading(recorder):
        outputs = function(*inputs)
    if recorder.unrecordable:
        raise UnrecordableError(recorder.unrecordable, outputs)
    if not all(tensor is None or recorder.knows(tensor) for tensor in outputs):
        raise UnrecordableError("an output comes from nowhere", outputs)
    found = [None if tensor is None else recorder.value_of(tensor) for tensor in outputs]
    return outputs, Recording(len(inputs[0]), recorder.calls, found, frozenset(recorder.written))


def generalized(one: Recording, other: Recording) -> Recording | None:
    """The recording for any number of rows; None where two of different numbers differ in more than that."""
    if one.rows == other.rows or len(one.calls) != len(other.calls):
        return None
    if one.outputs != other.outputs or one.written != other.written:
        return None
    calls = []
    for first, second in zip(one.calls, other.calls, strict=True):
        (left, form), (right, other_form) = (tree_flatten((call.arguments, call.options)) for call in (first, second))
        if first.function is not second.function or first.several != second.several or form != other_form:
            return None
        merged = [_merged(a, b, one.rows, other.rows) for a, b in zip(left, right, strict=True)]
        if any(entry is _DIFFERENT for entry in merged):
            return None
        arguments, options = tree_unflatten(merged, form)
        calls.append(Call(first.function, arguments, options, first.several))
    return Recording(ANY, calls, one.outputs, one.written)


_DIFFERENT = object()


def _merged(one: Any, other: Any, rows: int, other_rows: int) -> Any:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        same = isinstance(one, Tensor) and isinstance(other, Tensor) and same_bits(one, other)
        return one if same else _DIFFERENT
    if type(one) is not type(other):
        return _DIFFERENT
    if one == other or (one != one and other != other):
        return one
    if type(one) is int and one % rows == 0 and one // rows * other_rows == other:
        return Rows(one // rows)
    return _DIFFERENT


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same form and numbers, of which NaN are the same."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())
