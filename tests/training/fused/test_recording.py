"""Recordings: the same numbers as the function itself, for any number of rows, or none at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, vmap

from tuner.training.fused.passes import Passes
from tuner.training.fused.recording import UnrecordableError, generalized, recorded, same_bits
from tuner.training.fused.replays import as_python

CPU = torch.device("cpu")


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained(weights: Tensor, bias: Tensor, inputs: Tensor) -> list[Tensor | None]:
    """Losses of a stack of linear models and their gradients; an input without a gradient is in between."""
    leaves = [weights.detach().requires_grad_(), bias.detach().requires_grad_()]

    def loss(weight: Tensor, bias: Tensor, inputs: Tensor) -> Tensor:
        return F.gelu(F.linear(inputs, weight, bias)).square().mean() + torch.tensor(0.5)

    losses = vmap(loss)(*leaves, inputs)
    first, second = torch.autograd.grad(losses.sum(), leaves)
    return [losses.detach(), first, None, second]


def stack(rows: int, seed: int = 0) -> list[Tensor]:
    return [drawn(seed, rows, 5, 3), drawn(seed + 1, rows, 5), drawn(seed + 2, rows, 7, 3)]


def assert_same(one: list[Tensor | None], other: list[Tensor | None]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert (left is None) == (right is None)
        assert left is None or same_bits(left, right)


@settings(deadline=None, max_examples=25)
@given(first=st.integers(3, 9), second=st.integers(10, 33), rows=st.integers(3, 70), seed=st.integers(0, 99))
def test_two_recordings_serve_any_number_of_rows(first: int, second: int, rows: int, seed: int) -> None:
    recordings = [recorded(trained, stack(count))[1] for count in (first, second)]
    general = generalized(*recordings)
    assert general is not None
    expected, _ = recorded(trained, stack(rows, seed))
    assert_same(as_python(general)(rows, *stack(rows, seed)), expected)


def test_what_depends_on_the_rows_otherwise_is_not_made_general() -> None:
    def row_by_row(inputs: Tensor) -> list[Tensor]:
        return [torch.stack([row * 2 for row in inputs])]

    def named(inputs: Tensor) -> list[Tensor]:
        return [inputs + 1.0 / len(inputs)]

    for function in (row_by_row, named):
        one, other = (recorded(function, [drawn(0, rows, 2)])[1] for rows in (3, 4))
        assert generalized(one, other) is None
        assert_same(as_python(other)(4, drawn(5, 4, 2)), function(drawn(5, 4, 2)))


def test_numbers_that_are_read_cannot_be_recorded() -> None:
    with pytest.raises(UnrecordableError, match="_local_scalar_dense"):
        recorded(lambda inputs: [inputs * inputs.sum().item()], [drawn(0, 3, 2)])


def test_constants_that_are_made_in_python_are_made_anew() -> None:
    def added(inputs: Tensor) -> list[Tensor | None]:
        def total(inputs: Tensor) -> Tensor:
            steps = torch.tensor(0.0)
            steps += 2
            return inputs + steps

        return [vmap(total)(inputs)]

    replay = as_python(recorded(added, [drawn(0, 3, 2)])[1])
    for seed in range(3):
        assert_same(replay(3, drawn(seed, 3, 2)), [drawn(seed, 3, 2) + 2])


def test_what_changes_tensors_of_others_cannot_be_recorded() -> None:
    count = torch.zeros(())

    def counting(inputs: Tensor) -> list[Tensor]:
        count.add_(1)
        return [inputs + count]

    with pytest.raises(UnrecordableError, match="none of its tensors"):
        recorded(counting, [drawn(0, 3, 2)])


class TestPasses:
    """Whatever a function does, a pass gives what it gives."""

    def check(self, function: Callable[..., Any], make: Callable[[int], list[Tensor]], calls: int = 5) -> None:
        passes = Passes(CPU)
        for call in range(calls):
            mine, theirs = make(call), make(call)
            found, expected = passes.run("name", function, *mine), recorded(function, theirs)[0]
            assert_same(found, expected)
            assert_same(mine, theirs)

    def test_of_several_numbers_of_rows(self) -> None:
        passes = Passes(CPU)
        for call in range(40):
            rows = 3 + call % 4
            assert_same(passes.run("name", trained, *stack(rows, call)), recorded(trained, stack(rows, call))[0])

    def test_that_changes_buffers_in_place(self) -> None:
        def averaged(averages: Tensor, inputs: Tensor) -> list[Tensor]:
            averages.mul_(0.9).add_(inputs.mean(dim=1), alpha=0.1)
            return [averages * 2]

        self.check(averaged, lambda call: [drawn(call, 4, 3), drawn(call + 1, 4, 6, 3)])

    def test_with_batch_norm(self) -> None:
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))

        def normed(weight: Tensor, mean: Tensor, inputs: Tensor) -> list[Tensor]:
            def output(weight: Tensor, mean: Tensor, inputs: Tensor) -> Tensor:
                named = {"0.weight": weight, "1.running_mean": mean}
                others = {"1.running_var": torch.ones_like(mean), "1.num_batches_tracked": torch.zeros_like(mean[0])}
                found: Tensor = functional_call(model, {**named, **others}, (inputs,))
                return found

            return [vmap(output)(weight, mean, inputs).detach()]

        self.check(normed, lambda call: [drawn(call, 5, 4, 3), drawn(call, 5, 4), drawn(call + 1, 5, 6, 3)])

    def test_that_counts_in_python(self) -> None:
        """A recording would repeat the first count; the second call finds out."""
        passes, calls = Passes(CPU), []

        def counting(inputs: Tensor) -> list[Tensor]:
            calls.append(1)
            return [inputs + len(calls)]

        for call in range(1, 6):
            assert_same(passes.run("name", counting, torch.zeros(3, 2)), [torch.full((3, 2), float(call))])

    def test_that_reads_numbers(self) -> None:
        passes = Passes(CPU)

        def reading(inputs: Tensor) -> list[Tensor]:
            return [inputs * (2 if inputs.sum().item() > 0 else 3)]

        for value in (1.0, -1.0, 1.0, -1.0):
            inputs = torch.full((3, 2), value)
            assert_same(passes.run("name", reading, inputs), reading(inputs))

    def test_of_nested_arguments_with_gaps(self) -> None:
        passes = Passes(CPU)

        def nested(parameters: dict[str, Tensor], pair: tuple[Tensor, None]) -> dict[str, Any]:
            return {"sum": parameters["a"] + pair[0], "none": None, "several": (parameters["a"] * 2, {})}

        for call in range(4):
            given = {"a": drawn(call, 3, 2)}, (drawn(call + 1, 3, 2), None)
            found, expected = passes.run("name", nested, *given), nested(*given)
            assert same_bits(found["sum"], expected["sum"])
            assert same_bits(found["several"][0], expected["several"][0])
            assert found["none"] is None
            assert found["several"][1] == {}

    def test_that_cannot_be_recorded_runs_once(self) -> None:
        """What it does beside is not done twice."""
        passes, calls = Passes(CPU), []

        def reading(inputs: Tensor) -> list[Tensor]:
            calls.append(inputs.sum().item())
            return [inputs * 2]

        for call in range(1, 4):
            passes.run("name", reading, torch.ones(3, 2))
            assert len(calls) == call
