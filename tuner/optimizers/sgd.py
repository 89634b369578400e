"""SGD on rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tuner.optimizers.rule import Column, Rule, Variant, always, ever, true_ones


class SGD(Rule):
    """`torch.optim.SGD`: with momentum (Polyak, 1964) in torch's form, and Nesterov's (Sutskever et al., 2013)."""

    name = "SGD"

    @classmethod
    def variant_of(cls, options: Mapping[str, Any]) -> Variant | None:
        """`maximize`, `decay`, `momentum`, and with that `dampening` and `nesterov`.

        None for a momentum that is 0 at some steps only: torch leaves the buffer alone at those, and begins it at the
        first other step.
        """
        momentum = options["momentum"]
        if ever(momentum) and not always(momentum):
            return None
        used = {"maximize": options["maximize"], "decay": ever(options["weight_decay"])}
        if always(momentum):
            used |= {"momentum": True, "dampening": ever(options["dampening"]), "nesterov": options["nesterov"]}
        return true_ones(used)

    @property
    def slots(self) -> tuple[str, ...]:
        """The momentum's buffer, where there is momentum."""
        return ("momentum_buffer",) if "momentum" in self.variant else ()

    def scalars(self, options: Mapping[str, Any], steps: npt.NDArray[np.int64]) -> dict[str, Column]:
        """Momentum, weight decay, and how much of the gradient the buffer takes: at the first step, all."""
        return {
            "momentum": options["momentum"],
            "taken": np.where(steps == 1, 1.0, 1 - options["dampening"]),
            "weight_decay": options["weight_decay"],
        }

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
        direction = gradients
        if "momentum" in self.variant:
            direction = self._with_momentum(gradients, slots["momentum_buffer"], scalars)
        weights.addcmul_(direction, rate, value=-1)

    def _with_momentum(self, gradients: Tensor, buffer: Tensor, scalars: Mapping[str, Tensor]) -> Tensor:
        if "dampening" in self.variant:
            buffer.mul_(scalars["momentum"]).addcmul_(gradients, scalars["taken"])
        else:
            torch.addcmul(gradients, buffer, scalars["momentum"], out=buffer)
        return gradients.addcmul_(buffer, scalars["momentum"]) if "nesterov" in self.variant else buffer
