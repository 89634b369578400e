"""AdamW on rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.optimizers.adam import Adam
from tuner.optimizers.rule import Variant


class AdamW(Adam):
    """`torch.optim.AdamW`: Adam whose weight decay acts on the weights alone; Loshchilov & Hutter, 2019."""

    name = "AdamW"

    @classmethod
    def variant_of(cls, options: Mapping[str, Any]) -> Variant | None:
        """As Adam's, the decay always decoupled."""
        return super().variant_of({**options, "decoupled_weight_decay": True})
