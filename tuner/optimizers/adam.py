"""Adam on rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tuner.optimizers.rule import Column, Rule, Variant, can_divide, ever, root, true_ones


class Adam(Rule):
    """`torch.optim.Adam`: Kingma & Ba, 2015; AMSGrad: Reddi, Kale & Kumar, 2018.

    In the order that the paper's section 2 gives for speed: the bias corrections go into the learning rate and eps,
    so that they cost no pass over the weights.
    """

    name = "Adam"

    @classmethod
    def variant_of(cls, options: Mapping[str, Any]) -> Variant | None:
        """`amsgrad`, `maximize`, and `decay` or `decoupled decay` where there is any; None for an eps of 0."""
        if not can_divide(options["eps"]):
            return None
        decay = "decoupled decay" if options["decoupled_weight_decay"] else "decay"
        used = {"amsgrad": options["amsgrad"], "maximize": options["maximize"], decay: ever(options["weight_decay"])}
        return true_ones(used)

    @property
    def slots(self) -> tuple[str, ...]:
        """The moving averages of the gradient and of its square, and with AMSGrad the highest of the latter."""
        return ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if "amsgrad" in self.variant else []))

    def scalars(self, options: Mapping[str, Any], steps: npt.NDArray[np.int64]) -> dict[str, Column]:
        """The betas and what they leave to 1, eps and rate's factor with the bias corrections, the weight decay."""
        beta1, beta2 = options["beta1"], options["beta2"]
        root = np.sqrt(1 - beta2**steps)
        return {
            "rest1": 1 - beta1,
            "beta2": beta2,
            "rest2": 1 - beta2,
            "eps": options["eps"] * root,
            "correction": root / (1 - beta1**steps),
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
        mean, square = slots["exp_avg"], slots["exp_avg_sq"]
        self._prepare(weights, gradients, scalars)
        if "decoupled decay" in self.variant:
            weights.addcmul_(weights, rate * scalars["weight_decay"], value=-1)
        mean.lerp_(gradients, scalars["rest1"])
        # No lerp for the square: where it has overflowed, lerp would make NaN of it, and torch's Adam goes on.
        square.mul_(scalars["beta2"]).addcmul_(gradients.mul_(gradients), scalars["rest2"])
        if "amsgrad" in self.variant:
            square = torch.maximum(slots["max_exp_avg_sq"], square, out=slots["max_exp_avg_sq"])
        root(square, out=gradients).add_(scalars["eps"])
        torch.div(mean, gradients, out=gradients)
        weights.addcmul_(gradients, rate * scalars["correction"], value=-1)
