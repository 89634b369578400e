"""A member's bits in stacks of any size: the experiments that found what depends on them, and models as a whole."""

from __future__ import annotations

import itertools
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from tuner.training.fused.vectors import NUMBERS, WholeVectors

aten = torch.ops.aten
TYPES = {torch.float32: torch.int32, torch.float64: torch.int64, torch.bfloat16: torch.int16}
LENGTH = 64 * NUMBERS
MEMBERS = 33
UNTAGGED = re.compile(
    "(elu|gelu|mish|silu|softplus|softshrink|hardshrink|hardtanh|hardsigmoid|hardswish|leaky_relu|log_sigmoid|logit|"
    "_prelu_kernel|huber_loss|mse_loss|smooth_l1_loss|soft_margin_loss|binary_cross_entropy)(_|_forward|_backward)?"
)
"""Operators that work number by number, though torch does not tag all of them so."""

on_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="what differs elsewhere is not known")


def bits(tensor: Tensor) -> Tensor:
    """The bits of numbers as integers; every NaN is the same."""
    if tensor.dtype not in TYPES:
        return tensor
    return tensor.nan_to_num(nan=7.0).contiguous().view(TYPES[tensor.dtype])


# Every operator that works number by number


def operators() -> list[torch._ops.OpOverload]:
    """torch's operators that may work number by number, as they are called: none that is random or writes to `out`."""
    names = sorted({name[6:].split(".")[0] for name in torch._C._dispatch_get_all_op_names() if name[:6] == "aten::"})
    found = []
    for packet in (getattr(aten, name) for name in names if hasattr(aten, name)):
        for operator in (getattr(packet, overload) for overload in packet.overloads()):
            given = operator._schema.arguments
            if (
                (torch.Tag.pointwise in operator.tags or UNTAGGED.fullmatch(operator._schema.name[6:]))
                and torch.Tag.nondeterministic_seeded not in operator.tags
                and not any(argument.is_out for argument in given)
                and any(str(argument.type) == "Tensor" for argument in given)
            ):
                found.append(operator)
    return found


def numbers(kind: str, generator: torch.Generator) -> Tensor:
    """Numbers from 0.05 to 0.95, above 1, or of both signs: every function is defined for one of these."""
    if kind == "signed":
        return 2 * torch.randn(LENGTH, dtype=torch.float64, generator=generator)
    unit = 0.05 + 0.9 * torch.rand(LENGTH, dtype=torch.float64, generator=generator)
    return unit if kind == "unit" else 1 + 3 * unit


def arguments_of(operator: torch._ops.OpOverload, kind: str, dtype: torch.dtype) -> tuple[list[Any], dict[str, Any]]:
    """Arguments for an operator: numbers for each tensor, else the default or a value of its type."""
    generator = torch.Generator().manual_seed(0)
    values: dict[str, Any] = {"int": 0, "float": 0.37, "number": 0.37, "bool": True, "str": "none"}
    listed, named = [], {}
    for argument in operator._schema.arguments:
        if str(argument.type) == "Tensor":
            value: Any = numbers(kind, generator).to(dtype)
        elif argument.name == "reduction":
            value = 0
        elif argument.has_default_value():
            value = argument.default_value
        else:
            value = values.get(str(argument.type))
        if argument.kwarg_only:
            named[argument.name] = value
        else:
            listed.append(value)
    return listed, named


def outputs(
    operator: torch._ops.OpOverload, arguments: Sequence[Any], options: dict[str, Any], cut: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    given = [cut(value) if isinstance(value, Tensor) else value for value in arguments]
    found = operator(*given, **options)
    return [value for value in (found if isinstance(found, tuple | list) else [found]) if isinstance(value, Tensor)]


def with_gaps(tensor: Tensor) -> Tensor:
    return torch.empty(2 * len(tensor), dtype=tensor.dtype)[::2].copy_(tensor)


def numbers_that_differ(operator: torch._ops.OpOverload, kind: str, dtype: torch.dtype) -> int | None:
    """How many results have other bits where their numbers lie elsewhere; None for what does not work so."""
    arguments, options = arguments_of(operator, kind, dtype)
    try:
        whole = outputs(operator, arguments, options, torch.clone)
    except Exception:  # whatever an operator says to numbers that it is not made for
        return None
    cuts: list[tuple[slice, Callable[[Tensor], Tensor]]] = [(slice(0, LENGTH), with_gaps)]
    for length in (1, 31, 63, 100):
        for start in range(0, 10 * length, length):
            piece = slice(start, start + length)
            cuts.append((piece, lambda tensor, piece=piece: tensor[piece].clone()))
    different = 0
    for piece, cut in cuts:
        parts = outputs(operator, arguments, options, cut)
        if not whole or any(value.shape != (LENGTH,) for value in whole) or len(parts) != len(whole):
            return None
        for one, other in zip(whole, parts, strict=True):
            alike = torch.isclose(one[piece].double(), other.double(), rtol=0.02, atol=0.01, equal_nan=True)
            if not alike.all():
                return None  # it does not work number by number
            different += int((bits(one[piece]) != bits(other)).sum())
    return different


def differing(operators: Iterable[torch._ops.OpOverload]) -> dict[str, int]:
    """By name, of each of these that works number by number, how many results differ."""
    found: dict[str, int] = {}
    for operator, dtype, kind in itertools.product(operators, TYPES, ("unit", "above", "signed")):
        different = numbers_that_differ(operator, kind, dtype)
        if different is not None:
            found[operator.name()] = found.get(operator.name(), 0) + different
    return found


@pytest.mark.slow
def test_every_operator_that_works_number_by_number_does_so_alike_wherever_a_number_lies():
    with WholeVectors():
        found = differing(operators())
    assert len(found) > 250
    assert {name for name, count in found.items() if count} == set()


@on_x86
def test_without_it_they_do_not():
    found = differing([aten.sigmoid.default, aten.gelu.default, aten.pow.Tensor_Scalar, aten.silu_.default])
    assert all(count > 0 for count in found.values()) and len(found) == 4


# Models


@dataclass(frozen=True)
class Case:
    """A model of float32, the shape of its batches, and its loss, as the mean over a batch."""

    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    loss: Callable[[Tensor], Tensor] = lambda output: output.square().mean()


def mlp(activation: Callable[[], nn.Module]) -> Case:
    layers = lambda: nn.Sequential(nn.Linear(13, 13), activation(), nn.Linear(13, 3), activation())  # noqa: E731
    return Case(layers, (29, 13))


CASES = {
    "gelu": mlp(nn.GELU),
    "gelu by tanh": mlp(lambda: nn.GELU(approximate="tanh")),
    "sigmoid": mlp(nn.Sigmoid),
    "silu in place": mlp(lambda: nn.SiLU(inplace=True)),
    "batch norm of a few channels": Case(
        lambda: nn.Sequential(nn.Linear(13, 7), nn.BatchNorm1d(7), nn.Tanh()), (29, 13)
    ),
    "batch norm of one channel": Case(lambda: nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 5)), (29, 1)),
    "images of three channels": Case(lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU()), (7, 3, 8, 8)),
    "images of one channel": Case(lambda: nn.Sequential(nn.Conv2d(1, 16, 3, stride=2), nn.ReLU()), (8, 1, 4, 4)),
    "images turned to numbers": Case(
        lambda: nn.Sequential(nn.Conv2d(3, 6, 6), nn.ReLU(), nn.Flatten(), nn.Linear(6, 3)), (7, 3, 6, 6)
    ),
    "images made of two channels": Case(
        lambda: nn.Sequential(nn.Conv2d(3, 16, 3), nn.ConvTranspose2d(16, 2, 7)), (1, 3, 10, 10)
    ),
    "huber": Case(
        lambda: nn.Linear(13, 3), (29, 13), lambda output: F.huber_loss(output, output.detach().cos(), delta=0.1)
    ),
}


def model_of(case: Case, member: int) -> nn.Module:
    torch.manual_seed(member)
    return case.model()


def stacked(case: Case, members: Sequence[int], kind: str) -> dict[str, Tensor]:
    found = [dict(getattr(model_of(case, member), kind)()) for member in members]
    return {name: torch.stack([tensors[name].detach() for tensors in found]) for name in found[0]}


def trained(case: Case, members: Sequence[int], steps: int, adam: bool = False) -> dict[int, Tensor]:
    """The weights of each member after some steps of SGD with momentum, or of Adam, as one vector each."""
    model, parameters, buffers = model_of(case, 0), stacked(case, members, "named_parameters"), None
    buffers = stacked(case, members, "named_buffers")
    first, second = ({name: torch.zeros_like(tensor) for name, tensor in parameters.items()} for _ in range(2))

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return case.loss(functional_call(model, (parameters, buffers), (inputs,)))

    for step in range(1, steps + 1):
        batches = [
            torch.randn(case.shape, generator=torch.Generator().manual_seed(1000 * step + member)) for member in members
        ]
        leaves = [tensor.requires_grad_() for tensor in parameters.values()]
        losses = vmap(loss)(parameters, buffers, torch.stack(batches))
        gradients = dict(zip(parameters, torch.autograd.grad(losses.sum(), leaves), strict=True))
        parameters = {name: tensor.detach() for name, tensor in parameters.items()}
        for name, gradient in gradients.items():
            first[name].mul_(0.9).add_(gradient)
            second[name].mul_(0.99).addcmul_(gradient, gradient, value=0.01)
            change = first[name] / (second[name].sqrt() + 1e-8) if adam else first[name]
            parameters[name] -= 0.01 * change
    rows = torch.cat([tensor.flatten(1) for tensor in parameters.values()], dim=1)
    return dict(zip(members, rows, strict=True))


def members_that_differ(case: Case, steps: int, adam: bool = False) -> set[tuple[int, int]]:
    """(stack, member) of those that are not trained to the same bits as in a stack of two."""
    order = list(range(MEMBERS))
    alone: dict[int, Tensor] = {}
    for member in order[::2]:
        alone |= trained(case, [member, (member + 1) % MEMBERS], steps, adam)
    different = set()
    for number, lot in enumerate([order[:3], order[9:12][::-1], order[20:27], order, order[::-1]]):
        for member, row in trained(case, lot, steps, adam).items():
            if not torch.equal(bits(row), bits(alone[member])):
                different.add((number, member))
    return different


@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adam"])
@pytest.mark.parametrize("name", ["gelu", "sigmoid", "silu in place"])
def test_a_members_weights_have_the_same_bits_in_every_stack(name: str, adam: bool):
    with WholeVectors():
        assert members_that_differ(CASES[name], steps=15, adam=adam) == set()


@pytest.mark.parametrize("name", sorted(CASES))
def test_of_every_kind_of_remedy(name: str):
    with WholeVectors():
        assert members_that_differ(CASES[name], steps=3) == set()


@on_x86
def test_without_it_most_of_these_depend_on_the_stack():
    assert sum(bool(members_that_differ(case, steps=15)) for case in CASES.values()) > len(CASES) / 2


def test_products_of_half_precision_do_not_depend_on_how_many_there_are():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3000, *shape, generator=generator).bfloat16() for shape in ((13, 29), (29, 3)))
    with WholeVectors():
        pairs, tens = (
            torch.cat([torch.bmm(first[at : at + size], second[at : at + size]) for at in range(0, 3000, size)])
            for size in (2, 10)
        )
    assert torch.equal(bits(pairs), bits(tens))


# What the operators give is what torch gives


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "by numbers": torch.sigmoid,
    "by rows": lambda x: torch.pow(x, x[:1]),
    "by columns": lambda x: torch.atan2(x[:, :1], x),
    "by outer product": lambda x: torch.logaddexp(x[:, :1], x[:1]),
    "by one number": lambda x: x**1.7,
    "by a tensor of one number": lambda x: torch.pow(x, torch.tensor(1.7)),
    "of one number": lambda x: 1.7**x,
    "transposed": lambda x: F.gelu(x.t()),
    "with gaps": lambda x: F.silu(x[:, ::2]),
    "other type": lambda x: torch.pow(x, torch.arange(x.shape[1])),
    "no dimension": lambda x: torch.sigmoid(x.sum() if x.numel() else torch.tensor(0.3)),
    "in place": lambda x: x.clone().sigmoid_(),
    "in place, transposed": lambda x: F.elu_(x.clone().t() - 1),
    "in place, by rows": lambda x: x.clone().pow_(x[:1]),
    "in place, part": lambda x: F.silu((y := x.clone())[:, 1:], inplace=True).sum() + y,
    "sum inside": lambda x: x.t().unsqueeze(-1).sum(1, keepdim=True),
    "mean inside": lambda x: x.t().mean(1),
}


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 5), (8, 8), (9, 29), (64, 2)])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_operator_gives_what_torch_gives(form: str, shape: tuple[int, int]):
    given = 0.1 + torch.rand(shape, generator=torch.Generator().manual_seed(1))
    expected = FORMS[form](given.clone())
    with WholeVectors():
        found = FORMS[form](given)
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_what_is_changed_in_place_is_the_tensor_itself():
    base = torch.rand(5, 7)
    turned = base.t()
    expected = base.sigmoid()
    with WholeVectors():
        assert turned.sigmoid_() is turned
    torch.testing.assert_close(base, expected)


@pytest.mark.parametrize("name", sorted(CASES))
def test_models_train_as_they_do_without(name: str):
    members = [0, 1, 2]
    expected = trained(CASES[name], members, steps=3)
    with WholeVectors():
        found = trained(CASES[name], members, steps=3)
    torch.testing.assert_close(found, expected)


def test_other_threads_keep_torchs_own():
    numbers = torch.randn(101, generator=torch.Generator().manual_seed(2))
    expected = torch.sigmoid(numbers)
    with ThreadPoolExecutor(1) as pool, WholeVectors():
        assert torch.equal(pool.submit(torch.sigmoid, numbers).result(), expected)
    assert torch.equal(torch.sigmoid(numbers), expected)
