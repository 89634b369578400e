"""LinearWarmupCosineAnnealingLR: a linear warm-up, then half a cosine down."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class LinearWarmupCosineAnnealingLR(LRScheduler):
    """Each group's rate as a closed form of e, the scheduler's steps so far.

    With W = `warmup_epochs`, M = `max_epochs` (both in the scheduler's own steps) and base the group's rate, it is

        start + (base - start) e / W                                       for e < W, and base at e = W,
        eta_min + (base - eta_min) / 2 (1 + cos(pi (e - W) / (M - W)))     until e = M,
        eta_min                                                            after that.

    The cosine is that of I. Loshchilov, F. Hutter, SGDR (2017), eq. 5; the warm-up that of P. Goyal et al.,
    Accurate, Large Minibatch SGD (2017), section 2.2.

    Raises `ValueError` unless 0 <= W <= M and M >= 1.
    """

    name: ClassVar[str] = "LinearWarmupCosineAnnealingLR"
    length: ClassVar[str] = "max_epochs"

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_epochs: int,
        max_epochs: int,
        warmup_start_lr: float = 0.0,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if max_epochs < 1:
            raise ValueError(f"max_epochs must be at least 1, not {max_epochs}")
        if not 0 <= warmup_epochs <= max_epochs:
            raise ValueError(f"warmup_epochs must be from 0 to max_epochs ({max_epochs}), not {warmup_epochs}")
        self.warmup_epochs, self.max_epochs = warmup_epochs, max_epochs
        self.warmup_start_lr, self.eta_min = warmup_start_lr, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each parameter group at `last_epoch`."""
        return [self._rate(base) for base in self.base_lrs]

    def _rate(self, base: float | Tensor) -> float | Tensor:
        epoch, warmup, end = self.last_epoch, self.warmup_epochs, self.max_epochs
        if epoch < warmup:
            return self.warmup_start_lr + (base - self.warmup_start_lr) * epoch / warmup
        if epoch == warmup:
            return base
        if epoch > end:
            return self.eta_min
        return self.eta_min + (base - self.eta_min) / 2 * (1 + math.cos(math.pi * (epoch - warmup) / (end - warmup)))
