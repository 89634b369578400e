"""Replays: a recording as a script and as Python gives what the function gave, to the last bit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from tuner.training.fused import passes as passes_module
from tuner.training.fused.graphs import Graph
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


def promoted(x: Tensor) -> list[Tensor | None]:
    """Numbers of Python's take part in no choice of a type."""
    mask, count = x > 0.5, torch.tensor(3)
    x *= 1 - 0.1 * mask
    return [mask * 0.1, x.long() * 0.1, count * 0.1, torch.arange(2) * 0.5 + x[:, :2], x * x.mean() * 0.1]


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


def averaged(x: Tensor) -> list[Tensor | None]:
    """The gradient of a mean depends on how many numbers there are, that of single losses does not."""
    slope = torch.ops.aten.smooth_l1_loss_backward
    return [slope(torch.ones(()), x, -x, 1, 1.0), slope(torch.ones_like(x), x, -x, 0, 1.0)]


def convolved(x: Tensor) -> list[Tensor | None]:
    def loss(row: Tensor, weight: Tensor) -> Tensor:
        return F.conv1d(row.view(1, 1, -1), weight.view(1, 1, -1)).square().sum()

    weight = x[:, :3].detach().requires_grad_()
    (gradient,) = torch.autograd.grad(vmap(loss)(x, weight).sum(), [weight])
    return [gradient]


FUNCTIONS = [several, lists, numbers, promoted, constants, in_place, activated, averaged, convolved]


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


@pytest.mark.parametrize("function", [numbers, promoted, activated, convolved], ids=lambda function: function.__name__)
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


def test_graphs_write_what_the_function_writes() -> None:
    """A graph computes on copies of its own; here it is none, but a function that does."""

    def stepped(weights: Tensor, gradients: Tensor) -> list[Tensor | None]:
        weights[:, 1:].sub_(gradients[:, 1:])
        return [weights.sum(), None]

    _, recording = recorded(stepped, [torch.zeros(3, 2), torch.ones(3, 2)])
    assert recording.written == {0}
    graph, replay = object.__new__(Graph), as_python(recording)
    graph._inputs, graph._written = [torch.zeros(3, 2), torch.zeros(3, 2)], [0]
    graph._outputs = [torch.zeros(()), None]
    graph._graph = SimpleNamespace(replay=lambda: graph._outputs[0].copy_(replay(3, *graph._inputs)[0]))
    weights = torch.zeros(3, 2)
    first, _ = graph(3, weights, torch.ones(3, 2))
    second, _ = graph(3, weights, torch.ones(3, 2))
    assert weights.tolist() == [[0, -2]] * 3
    assert (first, second) == (-3, -6)


def test_two_threads_that_find_a_fault_go_on_the_next_way_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have tried one script that is wrong; its recording as Python is right, and is used."""
    both = threading.Barrier(2)

    def wrong(recording: object) -> Function:
        def script(rows: int, x: Tensor) -> list[Tensor | None]:
            both.wait(10)
            return [x * 3]

        return script

    monkeypatch.setattr(passes_module, "as_script", wrong)
    passes, made = Passes(torch.device("cpu")), []
    monkeypatch.setattr(passes_module, "as_python", lambda recording: made.append(recording) or as_python(recording))

    def run(calls: int) -> None:
        for call in range(calls):
            assert_same(passes.run("name", lambda x: [x * 2], drawn(3, 2, seed=call)), [drawn(3, 2, seed=call) * 2])

    run(1)
    threads = [threading.Thread(target=run, args=[1]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run(3)
    assert len(made) == 1


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
