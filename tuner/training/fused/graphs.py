"""Graphs: a replay as one CUDA graph, launched at once instead of operation by operation.

On a GPU small models wait for launches. A graph fixes where everything lies in memory: inputs are copied to their
places before it runs, and what it gives is overwritten when it runs again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 2
"""Runs before the capture, in which libraries choose their kernels and allocate what they keep."""


class Graph:
    """A replay for some number of rows, captured with inputs of the form of `tensors`.

    `pool` is the memory that graphs which never run at once may share. Raises what the capture raises; then the replay
    is to be run as it is.
    """

    def __init__(
        self,
        replay: Callable[..., list[Tensor | None]],
        rows: int,
        tensors: list[Tensor],
        pool: Any,
    ) -> None:
        self._inputs = [tensor.clone() for tensor in tensors]
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
        """What the replay gives for these inputs, until the next call."""
        torch._foreach_copy_(self._inputs, list(tensors))
        self._graph.replay()
        return self._outputs
