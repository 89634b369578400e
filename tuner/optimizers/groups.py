"""Parameter groups: which part of a model trains at which rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from tuner.errors import SearchSpaceError


def parameter_groups(model: nn.Module, rate: float, multipliers: Mapping[str, float]) -> list[dict[str, Any]]:
    """Trainable parameters in groups by substring of their name, first match wins, the unmatched first.

    Beside `params` and `lr`, a group holds its `lr_multiplier`, and `part`, the substring ("" for the unmatched).
    Raises `SearchSpaceError` for a multiplier that matches no parameter.
    """
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    owner = {name: next((key for key in multipliers if key in name), "") for name in trainable}
    for key in multipliers:
        if key not in owner.values():
            raise SearchSpaceError(
                "matches the name of no trainable parameter",
                place=f"lr_multipliers.{key}",
                value=key,
                hint="The model has: " + ", ".join(trainable),
            )
    groups = []
    for part, factor in {"": 1.0, **multipliers}.items():
        members = [parameter for name, parameter in trainable.items() if owner[name] == part]
        if members:
            groups.append({"params": members, "lr": rate * factor, "lr_multiplier": factor, "part": part})
    return groups
