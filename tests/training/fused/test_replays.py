"""Replays: a recording as a script and as Python gives what the function gave, to the last bit."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from tuner.training.fused import passes as passes_module
from tuner.training.fused.passes import Passes
from tuner.training.fused.recording import generalized, recorded, same_bits
from tuner.training.fused.replays import as_python, as_script

Function = Callable[..., list[Tensor | None]]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_same(one: list[Tensor | None], other: list[Tensor | None]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert (left is None) == (right is None)
        assert left is None or same_bits(left, right)


def several(x: Tensor) -> list[Tensor | None]:
    values, places = x.topk(2, dim=1)
    parts = x.split(2, dim=1)
    return [values, places, parts[1], *torch.linalg.qr(x)]


def lists(x: Tensor) -> list[Tensor | None]:
    places, changed = torch.tensor([0, 2]), x.clone()
    changed[:, places] = 0.0
    return [x[:, places], x.sum(dim=[]), torch.cat([x, x], dim=1), changed]


def numbers(x: Tensor) -> list[Tensor | None]:
    return [
        x.masked_fill(x > 0, float("-inf")),
        x.nan_to_num(nan=1e300),
        torch.div(x, 0.3, rounding_mode="floor"),
        x.to(torch.float64) * 0.1,
        torch.full_like(x, float("nan")),
        F.gelu(x, approximate="tanh"),
    ]


def constants(x: Tensor) -> list[Tensor | None]:
    steps = torch.tensor([1.0, 2.0])
    steps += 1
    return [x[:, :2] * steps, None, x + torch.arange(x.shape[1])]


def in_place(x: Tensor) -> list[Tensor | None]:
    x[:, 1:].mul_(2).add_(1)
    torch.maximum(x, -x, out=x)
    return []


def activated(x: Tensor) -> list[Tensor | None]:
    """Operators with remedies: of one operand and of two, of other shapes and layouts, and of dimension 0."""
    line = x.t().contiguous().t()
    found = [
        F.silu(x),
        F.softplus(line),
        torch.atan2(line, x),
        torch.hypot(x, x[:, :1]),
        torch.atan2(x, torch.ones(())),
    ]
    return [*found, x.abs().pow(1.5), torch.sigmoid(x.clone()), x.clone().sigmoid_(), line.sum(dim=[1])]


def convolved(x: Tensor) -> list[Tensor | None]:
    def loss(row: Tensor, weight: Tensor) -> Tensor:
        return F.conv1d(row.view(1, 1, -1), weight.view(1, 1, -1)).square().sum()

    weight = x[:, :3].detach().requires_grad_()
    (gradient,) = torch.autograd.grad(vmap(loss)(x, weight).sum(), [weight])
    return [gradient]


FUNCTIONS = [several, lists, numbers, constants, in_place, activated, convolved]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("shape", [(3, 5), (4, 64), (7, 37)], ids=str)
def test_scripts_and_python_give_what_the_function_gives(function: Function, shape: tuple[int, int]) -> None:
    x = drawn(*shape)
    expected, recording = recorded(function, [x])
    script = as_script(recording)
    assert script is not None
    for replay in (script, as_python(recording)):
        again = drawn(*shape)
        assert_same(replay(shape[0], again), expected)
        assert same_bits(again, x)


@pytest.mark.parametrize("function", [numbers, activated, convolved], ids=lambda function: function.__name__)
def test_a_script_serves_any_number_of_rows(function: Function) -> None:
    recordings = [recorded(function, [drawn(rows, 9)])[1] for rows in (3, 8)]
    general = generalized(*recordings)
    assert general is not None
    script = as_script(general)
    assert script is not None
    for rows in (4, 11, 30):
        assert_same(script(rows, drawn(rows, 9)), recorded(function, [drawn(rows, 9)])[0])


def test_recordings_of_as_many_rows_say_nothing_of_others() -> None:
    one, other = (recorded(lambda x: [x.view(12)], [drawn(4, 3)])[1] for _ in range(2))
    assert generalized(one, other) is None


def test_what_scripts_have_no_words_for_is_python() -> None:
    def turned(x: Tensor) -> list[Tensor | None]:
        return [x + 2j]

    expected, recording = recorded(turned, [drawn(3, 2)])
    assert as_script(recording) is None
    passes = Passes(torch.device("cpu"))
    for _ in range(4):
        assert_same(passes.run("name", turned, drawn(3, 2)), expected)


@pytest.mark.parametrize("fault", ["raises", "gives something else", "gives too little"])
def test_a_script_that_goes_wrong_is_not_used(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = []

    def wrong(recording: object) -> Function:
        def script(rows: int, x: Tensor) -> list[Tensor | None]:
            scripts.append(rows)
            if fault == "raises":
                raise RuntimeError("no such operator")
            return [x * 3] if fault == "gives something else" else []

        return script

    monkeypatch.setattr(passes_module, "as_script", wrong)
    passes = Passes(torch.device("cpu"))
    for call in range(6):
        assert_same(passes.run("name", lambda x: [x * 2], drawn(3, 2, seed=call)), [drawn(3, 2, seed=call) * 2])
    assert scripts == [3]


def test_threads_run_one_script_at_once() -> None:
    expected, recording = recorded(activated, [drawn(8, 33)])
    script = as_script(recording)
    assert script is not None
    failed: list[int] = []

    def many(number: int) -> None:
        for _ in range(50):
            try:
                assert_same(script(8, drawn(8, 33)), expected)
            except AssertionError:
                failed.append(number)

    threads = [threading.Thread(target=many, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
