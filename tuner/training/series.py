"""The per-step series of a run: every loss term and the learning rate, kept small."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tuner.files import write_atomically


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

    def restore(self, array: np.ndarray) -> None:
        """Go on from an earlier `array()`."""
        self._pending.clear()
        self._rates.clear()
        self._done = [array] if len(array) else []


def save_series(path: Path, columns: tuple[str, ...], array: np.ndarray) -> None:
    """Write a series (steps x columns) as a compressed `.npz`, one array a column, in place at once."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **{name: array[:, i] for i, name in enumerate(columns)})
    write_atomically(path, content.getvalue())
