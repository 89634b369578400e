"""Which values of a recipe a scheduler overwrites: some start from rates of their own, some cycle the momentum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuner.schedules.catalog import COMPOSED
from tuner.schedules.lengths import AUTO

STARTS = {"OneCycleLR": "max_lr", "CyclicLR": "base_lr"}
"""Schedulers that start from a rate of their own where it is given."""


def overwrites(name: str | None, options: Mapping[str, Any]) -> dict[str, str]:
    """The recipe's values that have no effect beside this scheduler, by path, each with the reason.

    Schedulers within others count too.
    """
    found: dict[str, str] = {}
    for kind, given in with_parts(name, options):
        start = STARTS.get(kind)
        if start and given.get(start, AUTO) != AUTO:
            found.setdefault("learning_rate", f"{kind} starts from {start}")
        if start and given.get("cycle_momentum", True) is not False:
            why = f"{kind} cycles the momentum between base_momentum and max_momentum"
            found.setdefault("optimizer_kwargs.momentum", why)
            found.setdefault("optimizer_kwargs.betas", f"{why}, which is the first of the betas")
    return found


def cycles_momentum(name: str | None, options: Mapping[str, Any]) -> bool:
    """Whether the scheduler moves the momentum beside the rate."""
    return "optimizer_kwargs.momentum" in overwrites(name, options)


def with_parts(name: str | None, options: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The scheduler and all those within it, with their options."""
    if name is None:
        return
    yield name, options
    parts = options.get("schedulers") if name in COMPOSED else None
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, Mapping) and isinstance(part.get("scheduler"), str):
            yield from with_parts(part["scheduler"], {key: value for key, value in part.items() if key != "scheduler"})
