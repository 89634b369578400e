"""Which schedulers there are: torch's classes by name, and the shelf's own."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch.optim import lr_scheduler

from tuner.registry import shelf

COMPOSED = ("SequentialLR", "ChainedScheduler")
"""Schedulers made of others, which their option `schedulers` lists."""

EXPRESSIONS = ("LambdaLR", "MultiplicativeLR")
"""Schedulers whose option `lr_lambda` is an expression in `epoch`."""


def names() -> dict[str, type[Any]]:
    """Scheduler classes by name: all of `torch.optim.lr_scheduler`, and those that a file of this folder declares."""
    return dict(_all())


@cache
def _all() -> dict[str, type[Any]]:
    base = lr_scheduler.LRScheduler
    torchs = {
        name: entry
        for name, entry in vars(lr_scheduler).items()
        if isinstance(entry, type) and issubclass(entry, base) and entry is not base and not name.startswith("_")
    }
    return torchs | shelf("tuner.schedules", base)


def is_plateau(name: str | None) -> bool:
    """Whether the scheduler watches a metric."""
    return name == "ReduceLROnPlateau"
