"""Randomness as a function of what it is for: the generators that any code may draw from, seeded and put back.

What a user's task, model or Dataset draws from torch, NumPy's global generator or Python's `random` is then the same
however often the run was interrupted. A generator that such code keeps for itself is its own affair.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from tuner.seeds import seed_for

CPU = torch.device("cpu")


def seed_generators(device: torch.device, *parts: object) -> None:
    """Seed torch's generators of the CPU and of `device`, NumPy's and Python's, all by `parts` alone.

    Takes about 10 microseconds; `torch.manual_seed` takes twenty times as long, as it goes through every kind of
    device that torch knows.
    """
    seed = seed_for(*parts)
    for generator in _torchs(device):
        generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Put these generators back, when the block ends, to where they were before it."""
    torchs = [(generator, generator.get_state()) for generator in _torchs(device)]
    numpys, pythons = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        for generator, state in torchs:
            generator.set_state(state)
        np.random.set_state(numpys)
        random.setstate(pythons)


def _torchs(device: torch.device) -> list[torch.Generator]:
    """torch's own generators that code which runs on `device` may draw from."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        number = torch.cuda.current_device() if device.index is None else device.index
        return [torch.default_generator, torch.cuda.default_generators[number]]
    if device.type == "mps":
        return [torch.default_generator, torch.mps._get_default_mps_generator()]
    return [torch.default_generator]
