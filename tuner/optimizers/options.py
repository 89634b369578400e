"""An optimizer's numbers while it runs: what can be set from step to step, and setting it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from tuner.optimizers import build, names
from tuner.recipe import INTEGER_OPTIONS

FIXED = frozenset({"lr", "lr_multiplier", "initial_accumulator_value", *INTEGER_OPTIONS})
"""Numbers of a parameter group that are no option of a step: read once, counting, or our own."""


_BETAS = {"momentum": 0, "beta2": 1}
"""What the betas are called one by one."""


def numeric_options(name: str) -> list[str]:
    """The options of the optimizer `name` that hold one number, the learning rate left out.

    `momentum` stands for the first of the betas where there are such, as torch's cyclic schedulers have it.
    """
    if name not in names():
        return []
    with torch.random.fork_rng(devices=[]):
        model = torch.nn.Linear(1, 1, bias=False)
    group = build(name, model, 1e-3, {}).param_groups[0]
    found = [
        option
        for option, value in group.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and option not in FIXED
    ]
    return [*found, "momentum"] if "betas" in group and "momentum" not in found else found


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group `rate` times its multiplier."""
    for group in optimizer.param_groups:
        set_number(group, "lr", rate * group.get("lr_multiplier", 1.0))


def has_option(optimizer: torch.optim.Optimizer, option: str) -> bool:
    """Whether an optimizer has one of the options of `numeric_options`."""
    return option_of(optimizer, option) is not None


def option_of(optimizer: torch.optim.Optimizer, option: str) -> float | None:
    """The value of an option in the first parameter group; None where the optimizer has none of that name."""
    return option_in(optimizer.param_groups[0], option)


def option_in(group: Mapping[str, Any], option: str) -> float | None:
    """The value of an option in a parameter group; None where it has none of that name."""
    if option in _BETAS and "betas" in group:
        return float(group["betas"][_BETAS[option]])
    return float(group[option]) if option in group else None


def set_option(optimizer: torch.optim.Optimizer, option: str, value: float) -> None:
    """Give every parameter group the value of an option, one of `numeric_options`."""
    for group in optimizer.param_groups:
        set_in(group, option, value)
    prepare(optimizer, option)


def set_in(group: dict[str, Any], option: str, value: float) -> None:
    """Give one parameter group the value of an option; `prepare` the optimizer after the last."""
    if option in _BETAS and "betas" in group:
        place = _BETAS[option]
        group["betas"] = (*group["betas"][:place], value, *group["betas"][place + 1 :])
    else:
        set_number(group, option, value)


def prepare(optimizer: torch.optim.Optimizer, option: str) -> None:
    """Let an optimizer have what it needs for an option that it was given."""
    if option == "momentum" and isinstance(optimizer, torch.optim.RMSprop):
        _begin_momentum(optimizer)


def options_in(group: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a parameter group's options."""
    return {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}


def put_options(group: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Give a parameter group the options of `options_in`, and no others."""
    for key in [key for key in group if key != "params" and key not in options]:
        del group[key]
    group.update(copy.deepcopy(dict(options)))


def _begin_momentum(optimizer: torch.optim.RMSprop) -> None:
    """Give every parameter the buffer that torch makes at the first step only, and only where there is momentum."""
    for parameter, state in optimizer.state.items():
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)


def set_number(group: dict[str, object], key: str, value: float) -> None:
    """Give one parameter group a number; those that live in tensors (`capturable`) keep their tensor."""
    before = group[key]
    if isinstance(before, torch.Tensor):
        before.fill_(value)
    else:
        group[key] = value
