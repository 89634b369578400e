"""A search around a session: its values where it ended, and what was turned in it searched nearby."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.errors import UsageError
from tuner.files import write_atomically
from tuner.live.controls import Control, Value
from tuner.live.recipe_controls import BETAS, controls_of, turned_recipe
from tuner.live.replay import Recorded
from tuner.optimizers.options import numeric_options
from tuner.search_space import find_target
from tuner.search_space.file import read_mode
from tuner.search_space.yaml_file import dump_yaml
from tuner.training.settings import NONE, WEIGHTED

FACTOR = 4.0
"""A number is searched from its value divided by this to its value times this; of what is near 1, the distance to 1."""

TRIALS = 50

IN_BETAS = tuple(("momentum", name) for name in BETAS)
"""Options that are one of two numbers, which are not searched."""


def space_around(session: Path, target: str | None, mode: str) -> Path:
    """Write the search space around a session as `MODE.yaml` into its folder; gives the file.

    Budget, sampler and pruner are those of the task's own mode. Raises `UsageError` where there is no session, or it is
    one of another task than `target`.
    """
    recorded = Recorded(session, target, "--around")
    about = recorded.space.about()
    own = find_target(target) if target is not None else find_target(recorded.space.task)
    if mode not in own.file.modes and own.file.modes:
        read_mode(own.file, mode, own.place)  # says which there are
    given: Mapping[str, Any] = own.file.modes.get(mode) or {}
    values = recorded.values()
    recipe = turned_recipe(recorded.recipe, values, None).model_dump()
    if recorded.recipe.timeline is not None:
        raise UsageError("the session's recipe has a timeline, which only --timeline follows", place="--around")
    search = _searched(recorded, values, about["metric"])
    if "optimizer" in search:
        options = recipe["optimizer_kwargs"].items()
        kept = {
            name: value for name, value in options if name == "weight_decay" or f"optimizer_kwargs.{name}" in search
        }
        recipe["optimizer_kwargs"] = kept
    epochs = (given.get("recipe") or {}).get("epochs")
    written = {key: given[key] for key in ("pruner", "pruner_kwargs", "time") if key in given}
    written |= {"sampler": "tpe" if given.get("sampler") in (None, "grid") else given["sampler"]}
    written |= {"trials": given.get("trials", TRIALS)}
    written |= {"recipe": {"epochs": epochs}} if epochs else {}
    space = {**about, "recipe": recipe, "modes": {mode: {**written, "search": search}}}
    path = session / f"{mode}.yaml"
    write_atomically(path, f"# Around {session.name}, as it ended.\n{dump_yaml(space)}".encode())
    return path


def _searched(recorded: Recorded, values: Mapping[str, Value], metric: str) -> dict[str, Any]:
    """What is searched: the learning rate, and everything that was turned."""
    found: dict[str, Any] = {}
    weighs = metric.partition("_")[2] != "loss"  # else a weight of zero would win
    for control in controls_of(recorded.recipe, recorded.task, recorded.probe):
        tried = _tried(recorded, control)
        if control.name != "learning_rate" and len(tried) < 2:
            continue
        is_loss = control.name == "loss" or control.name.startswith("loss_weights.")
        if is_loss and not (weighs and _is_read(control.name, values)):
            continue
        range_ = _range_of(control, values[control.name], tried)
        if range_ is not None:
            found[control.name] = range_
    optimizers = found.get("optimizer", {"choices": [values["optimizer"]]})["choices"]
    return {path: entry for path, given in found.items() if (entry := _where_it_is(path, given, optimizers))}


def _tried(recorded: Recorded, control: Control) -> list[Value]:
    """What a control stood at in the session, in order, each once."""
    numbers = [value for _, value in recorded.turns.values.get(control.name, [])]
    pairs = (action.partition("=") for _, action in recorded.turns.actions)
    settings = [text for name, _, text in pairs if name == control.name]
    return list(dict.fromkeys([control.value, *map(control.of, numbers), *map(control.read, settings)]))


def _is_read(name: str, values: Mapping[str, Value]) -> bool:
    """Whether the loss that the session ended with depends on this control."""
    weighted = values.get("loss", WEIGHTED) == WEIGHTED
    return weighted == name.startswith("loss_weights.")


def _range_of(control: Control, value: Value, tried: list[Value]) -> dict[str, Any] | None:
    """A range or choices around a value; None for what cannot be searched."""
    if control.name == "scheduler":
        return {"choices": [None if name == NONE else name for name in tried]}
    if control.name == "loss":
        return {"choices": [name for name in tried if name != WEIGHTED]}
    if control.kind == "choice":
        return {"choices": [value, *(other for other in tried if other != value)]} if control.setting else None
    assert not isinstance(value, str)
    if control.name == "batch_size":
        return {"choices": sorted({max(1, int(value) // 2), int(value), int(value) * 2})}
    if control.name == "steps_per_update" or control.name.endswith(".beta2"):
        return None
    if control.name.endswith(".momentum"):
        return {"low": max(0.0, 1 - FACTOR * (1 - value)), "high": 1 - (1 - value) / FACTOR}
    if control.low < 0:
        quarter = (control.high - control.low) / 4
        return {"low": _short(max(value - quarter, control.low)), "high": _short(min(value + quarter, control.high))}
    if value > 0:
        low, high = value / FACTOR, value * FACTOR
        if control.name.startswith("data."):
            low, high = max(low, control.low), min(high, control.high)
        return {"low": _short(low), "high": _short(high), "log": True}
    highest = max(float(other) for other in tried if not isinstance(other, str))
    return None if control.name == "gradient_clip" else {"low": 0.0, "high": highest}


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def _where_it_is(path: str, entry: dict[str, Any], optimizers: list[str]) -> dict[str, Any] | None:
    """An option's range for those optimizers only that have it as one number; None where none has."""
    section, _, option = path.partition(".")
    if section != "optimizer_kwargs":
        return entry
    having = [name for name in optimizers if option in numeric_options(name) and (option, name) not in IN_BETAS]
    if not having:
        return None
    return entry if len(having) == len(optimizers) else {**entry, "when": {"optimizer": having}}
