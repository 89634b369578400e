"""Optimizers without a rule: torch's own, on one trial's row."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuner.optimizers.options import set_option


def why_not(name: str) -> str:
    """Why the optimizer `name` cannot train one of many models that are stacked; "" if it can."""
    reasons = {
        "LBFGS": "LBFGS computes a step's loss as often as it needs to, and stacked models compute theirs together",
        "SparseAdam": "SparseAdam needs sparse gradients, and those of stacked models are dense",
    }
    return reasons.get(name, "")


class ByTorch:
    """A torch optimizer whose parameters lie in one trial's row, which may move; `bind` says where it is.

    `optimizer` is over a model of the trial's own; `parameters` are those that lie in the row, and `starts` the columns
    at which they begin. The optimizer's other parameters get no gradients, and so no updates.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], starts: Sequence[int]
    ) -> None:
        self.optimizer, self._parameters, self._starts = optimizer, parameters, starts

    def bind(self, row: Tensor, gradients: Tensor) -> None:
        """Train in the memory of `row` with what `gradients` will hold at each step; both are (width,)."""
        for parameter, start in zip(self._parameters, self._starts, strict=True):
            columns = slice(start, start + parameter.numel())
            parameter.data = row.detach()[columns].view(parameter.shape)
            parameter.grad = gradients.detach()[columns].view(parameter.shape)

    def step(self, rates: Sequence[float], options: Mapping[str, float], idle: Collection[int] = ()) -> None:
        """One step, at one rate for each parameter group, and with the values of numeric options, beta1 among them.

        The parameters that start at the columns `idle` have no gradient. The gradients may be overwritten.
        """
        groups = self.optimizer.param_groups
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        for name, value in options.items():
            option, now = ("momentum", groups[0]["betas"][0]) if name == "beta1" else (name, groups[0].get(name))
            if now is not None and now != value:  # what counts (Muon's ns_steps) would not be whole any more
                set_option(self.optimizer, option, value)
        gradients = [parameter.grad for parameter in self._parameters]
        for parameter, start in zip(self._parameters, self._starts, strict=True):
            if start in idle:
                parameter.grad = None
        self.optimizer.step()
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's `state_dict`, sharing no memory with it."""
        return copy.deepcopy(self.optimizer.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()` of the same optimizer, bit for bit; shares no memory with it."""
        self.optimizer.load_state_dict(dict(state))
        owners = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for number, saved in state["state"].items():
            loaded = self.optimizer.state[owners[number]]
            for key, value in saved.items():
                if isinstance(value, Tensor):  # torch has brought it to its device, but rounded it to the weights' type
                    loaded[key] = value.to(loaded[key].device, copy=True)
