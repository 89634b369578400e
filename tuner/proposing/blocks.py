"""Blocks: the order in which the draws of a sampler that learns nothing are taken, those of one shape together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from optuna.trial import FrozenTrial

BLOCK = 256
"""So many draws, or as many as the budget still asks for, are put in order."""


class Blocks:
    """Deals out a study's draws block by block; a trial's draw is recorded with it as `draw`.

    When a block is used up, its trials are exactly those that its draws would be in their own order. The shape that
    is drawn first comes first, so that a block which is cut off favours no shape: a frequent one is the likelier to be
    first.
    """

    def __init__(self, trials: Iterable[FrozenTrial]) -> None:
        dealt = [trial.user_attrs["draw"] for trial in trials if "draw" in trial.user_attrs]
        self._block: list[int] = dealt[-1]["block"] if dealt else [0, 0]
        self._taken = {draw["number"] for draw in dealt if draw["block"] == self._block}
        self._order: list[int] = []

    def deal(self, number: int, wanted: int | None, shape_of_draw: Callable[[int], str]) -> dict[str, Any]:
        """The draw of trial `number`, with its block from one draw up to before another, as they are recorded.

        `wanted` is how many trials the budget asks for, this one among them; None is no bound. `shape_of_draw` gives
        equal words for draws of equal shape.
        """
        if len(self._taken) == len(range(*self._block)):
            self._block, self._taken = [number, number + min(BLOCK, wanted or BLOCK)], set()
            self._order = []
        self._order = self._order or in_order_of_shape(range(*self._block), shape_of_draw)
        draw = next(draw for draw in self._order if draw not in self._taken)
        self._taken.add(draw)
        return {"number": draw, "block": self._block}


def in_order_of_shape(draws: Iterable[int], shape_of_draw: Callable[[int], str]) -> list[int]:
    """The draws, those of equal shape one behind the other, in the order in which the shapes come first."""
    alike: dict[str, list[int]] = {}
    for draw in draws:
        alike.setdefault(shape_of_draw(draw), []).append(draw)
    return [draw for found in alike.values() for draw in found]
