"""Checks of the keyword options of samplers and pruners."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from tuner.errors import SearchSpaceError
from tuner.registry import check_arguments


def check_options(function: Any, options: Mapping[str, Any], place: str, reserved: Mapping[str, str]) -> None:
    """Raise `UsageError` for an option that `function` does not take, or of another type than its default."""
    check_arguments(function, options, lambda name: f"{place}.{name}", reserved)
    parameters = inspect.signature(function).parameters
    for name, value in options.items():
        default = parameters[name].default
        if isinstance(default, bool):
            fits, words = isinstance(value, bool), "true or false"
        elif isinstance(default, int):
            fits, words = isinstance(value, int) and not isinstance(value, bool), "a whole number"
        elif isinstance(default, float):
            fits, words = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
        else:
            continue
        if not fits:
            raise SearchSpaceError(f"must be {words}", place=f"{place}.{name}", value=value)
