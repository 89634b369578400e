"""The per-step series of a run: every loss term, the loss and the learning rate; and what a task traces."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tuner.files import write_atomically
from tuner.tasks.base import Task

TRACE_STEPS = 10
"""A task's trace is taken every so many steps."""


class Series:
    """Columns of one float32 a step. Values stay on the device until the epoch ends, so no step waits."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns
        self._pending: list[Tensor] = []
        self._rates: list[float] = []
        self._done: list[np.ndarray] = []

    def add(self, values: Tensor, learning_rate: float) -> None:
        """Take one step's values (all columns but the last, which is the learning rate)."""
        self._pending.append(values)
        self._rates.append(learning_rate)

    def last(self) -> dict[str, Tensor]:
        """The last step's values by column without the learning rate (scalars), before `flush`; empty behind it."""
        return dict(zip(self.columns[:-1], self._pending[-1], strict=True)) if self._pending else {}

    def extend(self, values: np.ndarray, rates: np.ndarray) -> None:
        """Take several steps at once: `values` is steps x columns without the learning rate, `rates` (steps,)."""
        self.flush()
        self._done.append(np.column_stack([values, rates]).astype(np.float32))

    def flush(self) -> np.ndarray:
        """Bring the pending steps to the CPU and return them (steps x columns)."""
        if not self._pending:
            return np.zeros((0, len(self.columns)), dtype=np.float32)
        values = torch.stack(self._pending).float().cpu().numpy()
        block = np.column_stack([values, np.array(self._rates, dtype=np.float32)])
        self._pending.clear()
        self._rates.clear()
        self._done.append(block)
        return block

    def array(self) -> np.ndarray:
        """All steps so far (steps x columns), float32."""
        self.flush()
        return np.concatenate(self._done) if self._done else np.zeros((0, len(self.columns)), dtype=np.float32)

    def take_over(self, other: Series) -> None:
        """Go on where another stands."""
        other.flush()
        self._done = list(other._done)

    def restore(self, array: np.ndarray) -> None:
        """Go on from an earlier `array()`."""
        self._pending.clear()
        self._rates.clear()
        self._done = [array] if len(array) else []


class Trace:
    """What `Task.trace` gives, every `TRACE_STEPS` steps; kept on the device until the epoch ends."""

    def __init__(self) -> None:
        self._pending: list[dict[str, Tensor]] = []
        self._steps: list[int] = []
        self._done: list[dict[str, np.ndarray]] = []
        self._empty = False

    def take(self, step: int, task: Task, model: nn.Module) -> None:
        """Record the trace after a step, counted from 1; a task that traces nothing is asked once."""
        if self._empty or step % TRACE_STEPS:
            return
        model.eval()
        with torch.no_grad():
            found = {name: tensor.detach().clone() for name, tensor in task.trace(model).items()}
        self._empty = not found
        if found:
            self.add(step, found)

    def add(self, step: int, found: dict[str, Tensor]) -> None:
        """Record what was traced after a step, counted from 1."""
        self._pending.append(found)
        self._steps.append(step)

    def flush(self) -> None:
        """Bring what is pending to the CPU."""
        if self._pending:
            block = {f"trace.{n}": torch.stack([p[n] for p in self._pending]).cpu().numpy() for n in self._pending[0]}
            self._done.append({"trace_steps": np.array(self._steps, dtype=np.int64), **block})
            self._pending.clear()
            self._steps.clear()

    def arrays(self) -> dict[str, np.ndarray]:
        """`trace_steps` (times,) and `trace.NAME` (times x ...); empty where nothing is traced."""
        self.flush()
        names = self._done[0] if self._done else {}
        return {name: np.concatenate([block[name] for block in self._done]) for name in names}

    def take_over(self, other: Trace) -> None:
        """Go on where another stands."""
        other.flush()
        self._done = list(other._done)

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from earlier `arrays()`."""
        self._pending.clear()
        self._steps.clear()
        self._done = [dict(arrays)] if arrays else []


def save_series(path: Path, series: Series, trace: Trace) -> None:
    """Write a run's series as a compressed `.npz`, one array a column and one a trace, in place at once."""
    array = series.array()
    columns = {name: array[:, i] for i, name in enumerate(series.columns)}
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **columns, **trace.arrays())
    write_atomically(path, content.getvalue())
