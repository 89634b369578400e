"""Width: how many trials of a search are in flight at once, where nobody has said it."""

from __future__ import annotations

import math
from dataclasses import replace

from tuner.proposing.samplers import learns, startup_trials
from tuner.search_space.space import WHERE_A_RUN_ENDS, SearchSpace
from tuner.training.fused.trajectory import depends_on_length

WIDTHS = {"grid": 64, "random": 64, "qmc": 64, "tpe": 16, "gp": 16, "cmaes": 16}
"""The most by sampler: those that learn from results lose by asking many at once."""

GROUP_SIZE = 4
"""So many trials of one shape a sampler that learns is asked for, before it may choose the shape again."""

MOST_ENDS = 16
"""Trials of a grid that differ only in where they end share a training; no more than so many count as one."""

NARROW = 4
"""So many at once, or an eighth of the budget if that is more, lose next to nothing of what a sampler learns."""

MEMORY_BYTES = 2**28
"""What the trainings in flight may hold together, at `BYTES_A_PARAMETER` each."""

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
    return replace(space, parallel=max(2, min(WIDTHS[space.sampler], fitting)) * trials_a_training(space))


def trials_a_training(space: SearchSpace) -> int:
    """How many cells of a grid differ only in where they end, and so share a training."""
    if space.sampler != "grid" or depends_on_length(space.recipe.with_defaults(), steps_per_epoch=1):
        return 1
    ends = [entry.values() or [] for entry in space.parameters if entry.path.startswith(WHERE_A_RUN_ENDS)]
    return min(MOST_ENDS, math.prod(len(values) for values in ends))


def has_room(space: SearchSpace, in_flight: int, known: int) -> bool:
    """Whether another trial is to be asked for beside those in flight; of `known` ones a sampler can learn.

    By rule a sampler that learns has fewer trials in flight than `parallel` where the budget is small, but those that
    it draws at random, before it has learnt anything, are asked for at once.
    """
    if in_flight >= space.parallel or not space.parallel_by_rule or not learns(space.sampler):
        return in_flight < space.parallel
    eighth = (space.budget.trials or 8 * space.parallel) // 8
    startup = startup_trials(space.sampler, space.sampler_kwargs)
    return in_flight < max(NARROW, eighth) or in_flight + known < startup
