"""Width: how many trials of a search are in flight at once, where nobody has said it."""

from __future__ import annotations

from dataclasses import replace

from tuner.search_space.space import SearchSpace

WIDTHS = {"grid": 64, "random": 64, "qmc": 64, "tpe": 8, "gp": 8, "cmaes": 8}
"""By sampler: those that learn from results lose by asking many at once."""

MEMORY_BYTES = 2**28
"""What the trials in flight may hold together, at `BYTES_A_PARAMETER` each."""

BYTES_A_PARAMETER = 20
"""Of float32: weights, gradient, two slots of an optimizer, and the weights kept."""


def with_width(space: SearchSpace, fusable: bool, parameters: int) -> SearchSpace:
    """The space with `parallel` by rule where it is not given; `parameters` is the size of its default model.

    A rule on the space alone, so that the same search is the same on every machine. Trials that train one by one gain
    nothing by being many.
    """
    if not space.parallel_by_rule or not fusable or space.fuse == "off":
        return space
    fitting = MEMORY_BYTES // (BYTES_A_PARAMETER * max(1, parameters))
    return replace(space, parallel=max(2, min(WIDTHS[space.sampler], fitting)))
