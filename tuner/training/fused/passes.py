"""Passes: a program's functions of stacked tensors, which run as recordings once they are known to be right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from tuner.training.fused.dropout import tables_made
from tuner.training.fused.graphs import Graph
from tuner.training.fused.recording import ANY, Recording, UnrecordableError, generalized, recorded, same_bits
from tuner.training.fused.replays import Replay, as_python, as_script
from tuner.training.fused.vectors import WholeVectors
from tuner.training.trainer import is_out_of_memory

MOST_PASSES = 64
"""So many passes, which differ in shapes or in what they depend on, are remembered; the last ones."""

CLOSE = {"rtol": 1e-3, "atol": 1e-5}
"""How near a replay must be on a GPU, where sums may be added in another order each time; on the CPU bits are equal."""


class Way(NamedTuple):
    """How replays are made: as scripts or in Python, for any number of rows or for those that were recorded."""

    scripted: bool
    general: bool


WAYS = (Way(True, True), Way(False, True), Way(False, False))
"""They are tried one after another."""


class _Known:
    """What is known of one pass: recordings by their number of rows, or one for any number where two agree.

    `trusted` are the numbers of rows for which a replay gave what the pass itself gave, with what runs from then on.
    """

    def __init__(self, ways: Sequence[Way]) -> None:
        self.form: TreeSpec | None = None
        self._begin(ways)

    def _begin(self, ways: Sequence[Way]) -> None:
        self.trusted: dict[int, Replay] = {}
        self._recordings: dict[int, Recording] = {}
        self._replays: dict[int, Replay] = {}
        self._ways = ways

    @property
    def way(self) -> Way | None:
        """How its replays are made; None if the pass is to run as it is."""
        return self._ways[0] if self._ways else None

    def refuse(self) -> None:
        """It cannot be recorded."""
        self._begin(())

    def doubt(self, way: Way) -> None:
        """A replay that was made this way was another thing: begin anew, the next way; once."""
        if self.way == way:
            self._begin(self._ways[1:])

    def trust(self, way: Way, rows: int, replay: Replay) -> None:
        """A replay that was made this way is right for so many rows."""
        if self.way == way:
            self.trusted[rows] = replay

    def add(self, recording: Recording) -> None:
        """A recording for one more number of rows."""
        if self.way is None:
            return
        found = [generalized(other, recording) for other in self._recordings.values()] if self.way.general else []
        merged = next((one for one in found if one is not None), None)
        self._recordings = {**self._recordings, recording.rows: recording} if merged is None else {ANY: merged}

    def recording(self, rows: int) -> Recording | None:
        """What was recorded for so many rows."""
        return self._recordings.get(rows, self._recordings.get(ANY))

    def replay(self, recording: Recording) -> Replay:
        """The replay of one of its recordings; made when it is needed first."""
        if recording.rows not in self._replays:
            script = as_script(recording) if self.way is not None and self.way.scripted else None
            self._replays[recording.rows] = script or as_python(recording)
        return self._replays[recording.rows]


class Passes:
    """Runs passes, from recordings where that is the same; on a GPU these become graphs.

    A pass is recorded the first time. The second time with as many rows it runs in both ways, and from then on as it
    was recorded if both gave the same. Else, or where it cannot be recorded, it runs as it is for ever. `uncaptured`
    says why a recording became no graph ("" if none was refused); `learned` counts the calls that recorded or compared.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.uncaptured, self.learned = device, "", 0
        self._known: dict[Hashable, _Known] = {}
        self._lock = Lock()
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def run(self, name: Hashable, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)`: nested tensors, all with the trials first, which it may write, to nested tensors.

        `name` tells apart what else the function depends on.
        """
        leaves, form = tree_flatten(arguments)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        key = (name, form, repr(others), *((tensor.shape[1:], tensor.dtype) for tensor in tensors))
        with self._lock:
            known = self._known.pop(key, None) or _Known(WAYS if self.device.type == "cpu" else WAYS[1:])
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
        with self._lock:
            way, recording = known.way, known.recording(rows)
            replay = None if recording is None else known.replay(recording)
            self.learned += way is not None
        if way is None:
            return self._as_it_is(function, tensors)
        if recording is None or replay is None:
            return self._record(known, function, tensors)
        outputs, same = self._try(replay, rows, function, tensors)
        captured = self._captured(replay, rows, tensors, recording.written) if same else replay
        with self._lock:
            if same:
                known.trust(way, rows, captured)
            else:
                known.doubt(way)
        return outputs

    def _record(self, known: _Known, function: Replay, tensors: list[Tensor]) -> list[Any]:
        tables = tables_made()
        try:
            outputs, recording = recorded(function, tensors, on_cpu=self.device.type == "cpu")
        except UnrecordableError as error:
            known.refuse()
            return error.outputs
        if tables_made() != tables:  # which is not to be done again each time
            return outputs
        with self._lock:
            known.add(recording)
        return outputs

    def _try(self, replay: Replay, rows: int, function: Replay, tensors: list[Tensor]) -> tuple[list[Any], bool]:
        """What the function gives, and whether the replay gives the same, and changes its inputs alike."""
        copies = [tensor.clone() for tensor in tensors]
        outputs = self._as_it_is(function, tensors)
        try:
            found = replay(rows, *copies)
        except Exception as error:  # an operation may look at more than its arguments
            if is_out_of_memory(error):
                raise
            found = []
        same = len(found) == len(outputs) and all(map(self._same, [*outputs, *tensors], [*found, *copies]))
        return outputs, same

    def _same(self, expected: Tensor | None, found: Tensor | None) -> bool:
        if expected is None or found is None:
            return expected is found
        if self.device.type == "cpu":
            return same_bits(expected, found)
        return torch.allclose(expected, found, equal_nan=True, **CLOSE)

    def _captured(self, replay: Replay, rows: int, tensors: list[Tensor], written: Collection[int]) -> Replay:
        """The replay as a graph, if it is one for a GPU and can be captured."""
        if self.device.type != "cuda" or self.uncaptured:
            return replay
        try:
            return Graph(replay, rows, tensors, written, self._pool)
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
