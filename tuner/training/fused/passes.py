"""Passes: a program's functions of stacked tensors, which run as recordings once they are known to be right."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from tuner.training.fused.dropout import tables_made
from tuner.training.fused.graphs import Graph
from tuner.training.fused.recording import Recording, UnrecordableError, generalized, recorded, replay_of, same_bits
from tuner.training.fused.vectors import WholeVectors
from tuner.training.trainer import is_out_of_memory

Replay = Callable[..., list[Tensor | None]]

MOST_PASSES = 32
"""So many passes, which differ in shapes or in what they depend on, are remembered; the last ones."""

CLOSE = {"rtol": 1e-3, "atol": 1e-5}
"""How near a replay must be on a GPU, where sums may be added in another order each time; on the CPU bits are equal."""


@dataclass
class _Known:
    """What is known of one pass: recordings by their number of rows, and one for any number where two agree.

    `trusted` are the numbers of rows for which a replay gave what the pass itself gave, with what runs from then on.
    """

    form: TreeSpec | None = None
    recordings: dict[int, Recording] = field(default_factory=dict)
    replays: dict[int, Replay] = field(default_factory=dict)
    any_rows: Replay | None = None
    trusted: dict[int, Replay] = field(default_factory=dict)
    refused: bool = False


class Passes:
    """Runs passes, from recordings where that is the same; on a GPU these become graphs.

    A pass is recorded the first time. The second time with as many rows it runs in both ways, and from then on as it
    was recorded if both gave the same. Else, or where it cannot be recorded, it runs as it is for ever. `uncaptured`
    says why a recording became no graph ("" if none was refused).
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.uncaptured = device, ""
        self._known: dict[Hashable, _Known] = {}
        self._lock = Lock()
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def run(self, name: Hashable, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)`: nested tensors, all with the trials first, to nested tensors, valid until the next.

        `name` tells apart what else the function depends on.
        """
        leaves, form = tree_flatten(arguments)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        key = (name, form, repr(others), *((tensor.shape[1:], tensor.dtype) for tensor in tensors))
        with self._lock:
            known = self._known.pop(key, None) or _Known()
            self._known[key] = known
            while len(self._known) > MOST_PASSES:
                del self._known[next(iter(self._known))]

        def flat(*tensors: Tensor) -> list[Tensor | None]:
            given = iter(tensors)
            filled = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            outputs, known.form = tree_flatten(function(*tree_unflatten(filled, form)))
            return outputs

        outputs = self._run(known, len(tensors[0]), flat, tensors)
        assert known.form is not None
        return tree_unflatten(outputs, known.form)

    def _run(self, known: _Known, rows: int, function: Replay, tensors: list[Tensor]) -> list[Any]:
        trusted = known.trusted.get(rows)
        if trusted is not None:
            return trusted(rows, *tensors)
        if known.refused:
            return self._as_it_is(function, tensors)
        replay = known.any_rows or known.replays.get(rows)
        if replay is None:
            return self._record(known, rows, function, tensors)
        return self._try(known, rows, replay, function, tensors)

    def _record(self, known: _Known, rows: int, function: Replay, tensors: list[Tensor]) -> list[Any]:
        tables = tables_made()
        try:
            outputs, recording = recorded(function, tensors, on_cpu=self.device.type == "cpu")
        except UnrecordableError as error:
            known.refused = True
            return error.outputs
        if tables_made() != tables:  # which is not to be done again each time
            return outputs
        with self._lock:
            known.replays[rows] = replay_of(recording)
            for other in known.recordings.values():
                general = generalized(other, recording)
                if general is not None:
                    known.any_rows = replay_of(general)
                    known.recordings = {}
                    return outputs
            known.recordings[rows] = recording
        return outputs

    def _try(self, known: _Known, rows: int, replay: Replay, function: Replay, tensors: list[Tensor]) -> list[Any]:
        """Run both ways, on copies, as a model may change its batch."""
        copies = [tensor.clone() for tensor in tensors]
        outputs = self._as_it_is(function, tensors)
        try:
            found = replay(rows, *copies)
        except Exception as error:  # an operation may look at more than its arguments
            if is_out_of_memory(error):
                raise
            known.refused = True
            return outputs
        same = all(map(self._same, [*outputs, *tensors], [*found, *copies]))
        with self._lock:
            if same:
                known.trusted[rows] = self._captured(replay, rows, tensors)
            elif known.any_rows is replay:
                known.any_rows = None
            else:
                known.refused = True
        return outputs

    def _same(self, expected: Tensor | None, found: Tensor | None) -> bool:
        if expected is None or found is None:
            return expected is found
        if self.device.type == "cpu":
            return same_bits(expected, found)
        return torch.allclose(expected, found, equal_nan=True, **CLOSE)

    def _captured(self, replay: Replay, rows: int, tensors: list[Tensor]) -> Replay:
        """The replay as a graph, if it is one for a GPU and can be captured."""
        if self.device.type != "cuda" or self.uncaptured:
            return replay
        try:
            return Graph(replay, rows, tensors, self._pool)
        except Exception as error:  # whatever an operation does that a graph cannot hold
            if is_out_of_memory(error):
                raise
            self.uncaptured = f"{type(error).__name__}: {error}".splitlines()[0]
            return replay

    def _as_it_is(self, function: Replay, tensors: list[Tensor]) -> list[Any]:
        if self.device.type != "cpu":
            return function(*tensors)
        with WholeVectors():  # type: ignore[no-untyped-call]
            return function(*tensors)
