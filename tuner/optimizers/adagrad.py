"""Adagrad on rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tuner.optimizers.rule import Column, Rule, Variant, can_divide, ever, root, true_ones


class Adagrad(Rule):
    """`torch.optim.Adagrad`: Duchi, Hazan & Singer, 2011."""

    name = "Adagrad"

    @classmethod
    def variant_of(cls, options: Mapping[str, Any]) -> Variant | None:
        """`maximize` and `decay`; None for an eps of 0."""
        if not can_divide(options["eps"]):
            return None
        used = {"maximize": options["maximize"], "decay": ever(options["weight_decay"])}
        return true_ones(used)

    @property
    def slots(self) -> tuple[str, ...]:
        """The sum of the gradients' squares."""
        return ("sum",)

    def first(self, options: Mapping[str, Any]) -> dict[str, float]:
        """The sum begins at `initial_accumulator_value`."""
        return {"sum": float(options["initial_accumulator_value"])}

    def scalars(self, options: Mapping[str, Any], steps: npt.NDArray[np.int64]) -> dict[str, Column]:
        """Eps, weight decay, and by how much `lr_decay` has lowered the rate."""
        return {
            "eps": options["eps"],
            "weight_decay": options["weight_decay"],
            "lowered": 1 / (1 + (steps - 1) * options["lr_decay"]),
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
        total = slots["sum"].addcmul_(gradients, gradients)
        gradients.div_(root(total).add_(scalars["eps"]))
        weights.addcmul_(gradients, rate * scalars["lowered"], value=-1)
