"""LoopBody: model and optimizer of a loop of one's own, to which turns happen."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Set
from typing import Any

import torch

from tuner.errors import UsageError
from tuner.optimizers.options import has_option, option_of, set_number, set_option
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
        self._shares: list[float] = []
        self._first = self._state()
        self._rate = None if optimizer is None else float(optimizer.param_groups[0]["lr"])

    def start_of(self, name: str) -> float | None:
        """What the optimizer had by the name of a control; None where it has no such number."""
        if self.optimizer is None or name in LEARNING_RATES:
            return self._rate
        try:
            return option_of(self.optimizer, name)
        except (TypeError, ValueError):  # an option that is no number
            return None

    def check(self, name: str, value: str) -> None:
        """A loop of one's own takes any setting."""

    def _write_values(self) -> None:
        for name, keys in self.turns.values.items():
            at, value = keys[-1]
            if at == self.steps_done and (at > 0 or value != self.start_of(name)):
                self._write(name, value)

    def _write(self, name: str, value: float) -> None:
        if self.optimizer is None:
            return
        if name in LEARNING_RATES:
            for group, share in zip(self.optimizer.param_groups, self._shares_now(), strict=True):
                set_number(group, "lr", value * share)
        elif has_option(self.optimizer, name):
            set_option(self.optimizer, name, value)

    def _shares_now(self) -> list[float]:
        """The rate of each parameter group over that of the first, as it was when the group was first seen."""
        assert self.optimizer is not None
        groups = self.optimizer.param_groups
        first = float(groups[0]["lr"])
        for group in groups[len(self._shares) :]:
            self._shares.append(float(group["lr"]) / first if first else 1.0)
        return self._shares[: len(groups)]

    def _begin_anew(self) -> None:
        self._load(self._first)
        for name, value in self.turns.at(self.steps_done).items():
            self._write(name, value)

    def _set(self, name: str, value: str) -> None:
        """The loop reads it."""

    def _save(self) -> None:
        """`Live` does it."""

    def _state(self) -> dict[str, Any]:
        if self.optimizer is not None:
            self._shares_now()
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
