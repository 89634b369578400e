"""Where training runs: the device, and whether the data fits on it."""

from __future__ import annotations

from dataclasses import replace

import torch

from tuner.errors import UsageError, did_you_mean
from tuner.tasks.base import Data, Samples, Source

MEMORY_SHARE = 0.5
"""The most of a GPU's free memory that data may take."""


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name` (auto, cpu, cuda, cuda:N, mps); auto takes cuda, then mps, then cpu.

    Raises `UsageError` for a device that torch does not know or this machine lacks.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if present[kind]))
    kind, _, number = name.partition(":")
    if kind not in present or (number and not number.isdigit()):
        hint = "Did you mean 'cuda'?" if kind == "gpu" else did_you_mean(name, ["auto", *present])
        raise UsageError(f"there is no device '{name}'", place="--device", hint=hint)
    if not present[kind] or (kind == "cuda" and int(number or 0) >= torch.cuda.device_count()):
        here = ", ".join(entry for entry, there in present.items() if there)
        raise UsageError(f"this machine has no device '{name}'", place="--device", hint=f"It has: {here}")
    return torch.device(name)


def place(data: Data, device: torch.device) -> Data:
    """The data with its tensors on `device`, where they fit; else they stay, and batches are moved."""
    sources = [source for source in (data.train, data.validation) if isinstance(source, Samples)]
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if sum(source.nbytes() for source in sources) > MEMORY_SHARE * free:
            return data
    return replace(data, train=_on(data.train, device), validation=_on(data.validation, device))


def _on(source: Source, device: torch.device) -> Source:
    return source.to(device) if isinstance(source, Samples) else source
