"""Runs that are ended and begun again from a file, and what must be equal to the last bit afterwards."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuner.training.checkpoints import load_checkpoint, save_checkpoint
from tuner.training.plain import PlainRun


def trained_in_pieces(start: Callable[[], PlainRun], folder: Path, every: int = 1) -> PlainRun:
    """A run that ends after every step, or every so many, and goes on from a file as a fresh run.

    Validation counts as a step, so that it is cut before and behind it. The global generators stand elsewhere each
    time, as they do in another process.
    """
    disturb(1)
    run, path, count = start(), folder / "state", 0
    while not run.done:
        run.epoch() if run.epoch_is_trained else run.step()
        count += 1
        if count % every and not run.done:
            continue
        disturb(count)
        save_checkpoint(path, {0: run.state_dict()})
        run = start()
        run.load_state_dict(load_checkpoint(path)[0])
    return run


def disturb(seed: int) -> None:
    """Let the generators that any code may draw from stand where nobody expects them."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def outcome(run: PlainRun) -> dict[str, Any]:
    """All that a run has to show, the wall time left out."""
    records = [{key: value for key, value in vars(record).items() if key != "seconds"} for record in run.records]
    summary = {key: value for key, value in run.result().summary().items() if key != "seconds"}
    return {
        "records": records,
        "result": [summary, run.result().value, run.result().reason, run.result().diverged],
        "series": run.series.array(),
        "trace": run.trace.arrays(),
        "kept": run.kept_weights(),
        "model": dict(run.model.state_dict()),
        "optimizer": run.optimizer.state_dict(),
        "state": run.state,
    }


def same_bits(one: Any, two: Any) -> bool:
    """Whether two nested values have equal types and equal bits."""
    if type(one) is not type(two):
        return False
    if isinstance(one, dict):
        return list(one) == list(two) and all(same_bits(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same_bits, one, two))
    if isinstance(one, (torch.Tensor, np.ndarray)):
        return one.dtype == two.dtype and one.shape == two.shape and _bytes(one) == _bytes(two)
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", two)
    return bool(one == two)


def _bytes(value: torch.Tensor | np.ndarray) -> bytes:
    if isinstance(value, np.ndarray):
        return value.tobytes()
    fresh = torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
    return fresh.view(-1).view(torch.uint8).numpy().tobytes()
