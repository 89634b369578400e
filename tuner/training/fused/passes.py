"""Passes: a program's functions of stacked tensors, which run as recordings once they are known to be right."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from tuner.training.fused.recording import (
    Recording,
    UnrecordableError,
    generalized,
    recorded,
    replay_of,
    same_bits,
)
from tuner.training.fused.vectors import WholeVectors
from tuner.training.trainer import is_out_of_memory

Replay = Callable[..., list[Tensor | None]]


@dataclass
class _Known:
    """What is known of one pass: recordings by their number of rows, and one for any number where two agree.

    `trusted` are the numbers of rows for which a replay gave the bits that the pass itself gave.
    """

    form: TreeSpec | None = None
    recordings: dict[int, Recording] = field(default_factory=dict)
    replays: dict[int, Replay] = field(default_factory=dict)
    any_rows: Replay | None = None
    trusted: set[int] = field(default_factory=set)
    refused: bool = False


class Passes:
    """Runs passes, from recordings where that is the same.

    A pass is recorded the first time. The second time with as many rows it runs in both ways, and from then on as it
    was recorded if both gave the same bits. Else, or where it cannot be recorded, it runs as it is for ever.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, _Known] = {}
        self._lock = Lock()

    def run(self, name: Hashable, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)`: nested tensors, all with the trials first, to nested tensors.

        `name` tells apart what else the function depends on.
        """
        leaves, form = tree_flatten(arguments)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        key = (name, form, repr(others), *((tensor.shape[1:], tensor.dtype) for tensor in tensors))
        with self._lock:
            known = self._known.setdefault(key, _Known())

        def flat(*tensors: Tensor) -> list[Tensor | None]:
            given = iter(tensors)
            filled = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            outputs, known.form = tree_flatten(function(*tree_unflatten(filled, form)))
            return outputs

        outputs = self._run(known, len(tensors[0]), flat, tensors)
        assert known.form is not None
        return tree_unflatten(outputs, known.form)

    def _run(self, known: _Known, rows: int, function: Replay, tensors: list[Tensor]) -> list[Any]:
        replay = known.any_rows or known.replays.get(rows)
        if known.refused:
            return _as_it_is(function, tensors)
        if replay is None:
            return self._record(known, rows, function, tensors)
        if rows in known.trusted:
            return replay(rows, *tensors)
        copies = [tensor.clone() for tensor in tensors]  # a pass may change buffers
        outputs = _as_it_is(function, tensors)
        try:
            found = replay(rows, *copies)
        except Exception as error:  # an operation may look at more than its arguments
            if is_out_of_memory(error):
                raise
            known.refused = True
        else:
            self._judge(known, rows, replay, [*outputs, *tensors], [*found, *copies])
        return outputs

    def _record(self, known: _Known, rows: int, function: Replay, tensors: list[Tensor]) -> list[Any]:
        try:
            outputs, recording = recorded(function, tensors)
        except UnrecordableError:
            known.refused = True
            return _as_it_is(function, tensors)
        with self._lock:
            known.recordings[rows] = recording
            known.replays[rows] = replay_of(recording)
            for other in known.recordings.values():
                general = generalized(other, recording) if other is not recording else None
                if general is not None:
                    known.any_rows = replay_of(general)
        return outputs

    def _judge(self, known: _Known, rows: int, replay: Replay, expected: list[Any], found: list[Any]) -> None:
        same = all(a is b or same_bits(a, b) for a, b in zip(expected, found, strict=True))
        with self._lock:
            if same:
                known.trusted.add(rows)
            elif known.any_rows is replay:
                known.any_rows = None
            else:
                known.refused = True


def _as_it_is(function: Replay, tensors: list[Tensor]) -> list[Any]:
    with WholeVectors():
        return function(*tensors)
