"""RMSprop on rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tuner.optimizers.rule import Column, Rule, Variant, always, can_divide, ever, root, true_ones


class RMSprop(Rule):
    """`torch.optim.RMSprop`: Hinton's lecture 6e, 2012; centered: Graves, 2013; momentum as torch has it."""

    name = "RMSprop"

    @classmethod
    def variant_of(cls, options: Mapping[str, Any]) -> Variant | None:
        """`centered`, `maximize`, `decay`, `momentum`.

        None for an eps of 0, and for a momentum that is 0 at some steps only, at which torch leaves the buffer alone.
        """
        momentum = options["momentum"]
        if not can_divide(options["eps"]) or (ever(momentum) and not always(momentum)):
            return None
        used = {
            "centered": options["centered"],
            "maximize": options["maximize"],
            "decay": ever(options["weight_decay"]),
            "momentum": always(momentum),
        }
        return true_ones(used)

    @property
    def slots(self) -> tuple[str, ...]:
        """The moving average of the gradient's square, if centered also its own, and the momentum's buffer."""
        optional = {"centered": "grad_avg", "momentum": "momentum_buffer"}
        return ("square_avg", *(slot for entry, slot in optional.items() if entry in self.variant))

    def scalars(self, options: Mapping[str, Any], steps: npt.NDArray[np.int64]) -> dict[str, Column]:
        """The numeric options, and what alpha leaves to 1."""
        names = ("alpha", "eps", "weight_decay", "momentum")
        return {name: options[name] for name in names} | {"rest": 1 - options["alpha"]}

    def update(
        self,
        weights: Tensor,
        gradients: Tensor,
        slots: Mapping[str, Tensor],
        rate: Tensor,
        scalars: Mapping[str, Tensor],
    ) -> None:
        """One step of every row; see `Rule.update`."""
        self._prepare(weights, gradients, scalars)
        direction = gradients.div_(self._scale(gradients, slots, scalars))
        if "momentum" in self.variant:
            buffer = slots["momentum_buffer"]
            direction = torch.addcmul(direction, buffer, scalars["momentum"], out=buffer)
        weights.addcmul_(direction, rate, value=-1)

    def _scale(self, gradients: Tensor, slots: Mapping[str, Tensor], scalars: Mapping[str, Tensor]) -> Tensor:
        """What the gradients are divided by, after their averages took them in: trials x parameters."""
        square, scale = slots["square_avg"], gradients * gradients
        square.mul_(scalars["alpha"]).addcmul_(scale, scalars["rest"])
        if "centered" in self.variant:
            mean = slots["grad_avg"].lerp_(gradients, scalars["rest"])
            square = torch.addcmul(square, mean, mean, value=-1, out=scale)
        return root(square, out=scale).add_(scalars["eps"])
