"""LoopBody: model and optimizer of a loop of one's own, to which turns happen."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Set
from typing import Any

import torch

from tuner.errors import UsageError
from tuner.optimizers.options import option_in, options_in, prepare, put_options, set_in
from tuner.training.states import model_state, restore_model, restore_optimizer, snapshot
from tuner.training.turned import Turned
from tuner.turns import Turns

LEARNING_RATES = ("learning_rate", "lr")
"""Controls that are the optimizer's rate."""


class LoopBody(Turned):
    """A loop's model and optimizer (either may be missing) as what a session turns; any setting will do.

    Numbers that the optimizer has by a control's name are written into it where they are turned; all else is for the
    loop to read.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer | None, model: torch.nn.Module | None, wanted: Set[int]
    ) -> None:
        super().__init__(Turns(), wanted)
        self.optimizer, self.model = optimizer, model
        self._first = self._state()
        self._starts: dict[str, float | None] = {}
        self._shares: dict[str, list[float]] = {}
        self._written: set[str] = set()

    def start_of(self, name: str) -> float | None:
        """What the optimizer had by the name of a control at first, the most of its parameter groups; None: nothing."""
        if name not in self._starts:
            numbers = self._numbers(name)
            self._starts[name] = None if numbers is None else max(numbers)
            if numbers is not None:
                self._see_groups(name, numbers)
        return self._starts[name]

    def _numbers(self, name: str) -> list[float] | None:
        """A number of each parameter group; None where the optimizer has no such number."""
        if self.optimizer is None:
            return None
        option = "lr" if name in LEARNING_RATES else name
        try:
            found = [option_in(group, option) for group in self.optimizer.param_groups]
        except (TypeError, ValueError):  # an option that is no number
            return None
        numbers = [number for number in found if number is not None]
        return numbers if len(numbers) == len(found) else None

    def _see_groups(self, name: str, numbers: list[float]) -> list[float]:
        """The share of each parameter group in the most, as it was when the group was first seen."""
        shares = self._shares.setdefault(name, [])
        known = len(shares)
        if known:
            highest = max(range(known), key=shares.__getitem__)
            most = numbers[highest] / shares[highest] if shares[highest] else 0.0
        else:
            most = max(numbers)
        shares += [number / most if most else 1.0 for number in numbers[known:]]
        return shares[: len(numbers)]

    def _write_values(self) -> None:
        """Write the step's numbers into the optimizer, but for those that nobody has ever turned."""
        for name, value in self.turns.due(self.steps_done).numbers:
            if name in self._written or value != self.start_of(name):
                self._write(name, value)

    def _write(self, name: str, value: float) -> None:
        numbers = self._numbers(name)
        if self.optimizer is None or numbers is None:
            return
        self._written.add(name)
        option = "lr" if name in LEARNING_RATES else name
        for group, share in zip(self.optimizer.param_groups, self._see_groups(name, numbers), strict=True):
            set_in(group, option, value * share)
        prepare(self.optimizer, option)

    def _keep(self, whole: bool) -> Any:
        """The numbers of the parameter groups: nothing that can be turned in a loop alters weights in place."""
        groups = [] if self.optimizer is None else self.optimizer.param_groups
        return [options_in(group) for group in groups], set(self._written)

    def _put_back(self, kept: Any) -> None:
        groups, written = kept
        self._written = set(written)
        for group, numbers in zip([] if self.optimizer is None else self.optimizer.param_groups, groups, strict=True):
            put_options(group, numbers)

    def _begin_anew(self) -> None:
        self._load(self._first)
        for name, value in self.turns.at(self.steps_done).items():
            if name in self._written:
                self._write(name, value)

    def _set(self, name: str, value: str) -> None:
        """The loop reads it."""

    def _save(self) -> None:
        """`Live` does it."""

    def _state(self) -> dict[str, Any]:
        if self.model is None and self.optimizer is None:
            return {}
        model = {} if self.model is None else model_state(self.model)
        return {"model": model, "optimizer": {} if self.optimizer is None else snapshot(self.optimizer.state_dict())}

    def _load(self, state: Mapping[str, Any]) -> None:
        if self.optimizer is not None and len(state["optimizer"]["param_groups"]) != len(self.optimizer.param_groups):
            raise UsageError("the optimizer has other parameter groups by now, and cannot go back")
        if self.model is not None:
            tensors = itertools.chain(self.model.parameters(), self.model.buffers())
            device = next((tensor.device for tensor in tensors), torch.device("cpu"))
            restore_model(self.model, state["model"], device)
        if self.optimizer is not None:
            self.optimizer.state.clear()
            restore_optimizer(self.optimizer, state["optimizer"])
