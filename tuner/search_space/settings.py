"""Values given on the command line: `--set key=value` and durations such as `2h`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from tuner.errors import UsageError
from tuner.search_space.yaml_file import parse_yaml

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_settings(settings: Iterable[str], data: str | None = None) -> dict[str, Any]:
    """`['epochs=3', 'optimizer_kwargs={momentum:0.9}']` as `{'epochs': 3, 'optimizer_kwargs.momentum': 0.9}`.

    `data` is the value of `data.path`, a file or folder. Values are YAML. Raises `UsageError` for a setting
    without `=`, and `SearchSpaceError` for bad YAML.
    """
    values: dict[str, Any] = {} if data is None else {"data.path": os.path.normpath(data)}
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise UsageError("--set takes key=value", value=setting)
        place = f"--set {path}"
        value = parse_yaml(text, place)
        if isinstance(value, dict) and _holds_none(value):
            value = parse_yaml(re.sub(r"(?<=[\w\"']):(?=\S)", ": ", text), place)
        if isinstance(value, dict) and value:
            values.update({f"{path.strip()}.{name}": entry for name, entry in value.items()})
        else:
            values[path.strip()] = value
    return values


def _holds_none(value: object) -> bool:
    """Whether a nested value holds a None, as `{a:1}` does, which YAML reads as the key `a:1`."""
    return value is None or (isinstance(value, dict) and any(_holds_none(entry) for entry in value.values()))


def parse_duration(text: str | float, place: str = "--time") -> float:
    """Seconds in `90`, `90s`, `30m`, `1h30m`, `2d`; `UsageError` unless it is a duration above 0."""
    plain = str(text).replace(" ", "")
    match = _DURATION.fullmatch(f"{plain}s" if re.fullmatch(r"\d+(?:\.\d+)?", plain) else plain)
    parts = [float(part or 0) for part in match.groups()] if match else [0.0]
    seconds = sum(part * unit for part, unit in zip(parts, (86400, 3600, 60, 1), strict=False))
    if seconds <= 0:
        raise UsageError("a duration above 0 is written 90 or 90s (seconds), 30m, 1h30m or 2d", place=place, value=text)
    return seconds
