"""Graphs: a replay as one CUDA graph, launched at once instead of operation by operation.

On a GPU small models wait for launches. A graph fixes where everything lies in memory: inputs are copied to their
places before it runs, and what it gives, or changes, is copied from there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 2
"""Runs before the capture, in which libraries choose their kernels and allocate what they keep."""


class Graph:
    """A replay for some number of rows, captured with inputs of the form of `tensors`; it writes those at `written`.

    `pool` is the memory that graphs which never run at once may share. Raises what the capture raises; then the replay
    is to be run as it is.
    """

    def __init__(
        self,
        replay: Callable[..., list[Tensor | None]],
        rows: int,
        tensors: list[Tensor],
        written: Collection[int],
        pool: Any,
    ) -> None:
        self._inputs = [tensor.clone() for tensor in tensors]
        self._written = sorted(written)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                replay(rows, *self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._outputs = replay(rows, *self._inputs)

    def __call__(self, rows: int, *tensors: Tensor) -> list[Any]:
        """What the replay gives for these inputs."""
        torch._foreach_copy_(self._inputs, list(tensors))
        self._graph.replay()
        if self._written:
            torch._foreach_copy_(
                [tensors[place] for place in self._written], [self._inputs[place] for place in self._written]
            )
        return [None if output is None else output.clone() for output in self._outputs]
