"""Numbers, values and durations as short text. ASCII only: terminals differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.search_space.parameter import is_number

NOTHING = "-"

UNLIKELY = 0.05
"""What happens by chance no more often than this is taken for more than chance, where levels are compared."""


def measured(number: float | None) -> str:
    """A measurement to 4 significant digits, zeros kept so that columns line up: `0.9700`."""
    if number is None or not math.isfinite(number):
        return NOTHING
    text = f"{number:#.4g}"
    return text.removesuffix(".")


def p_value(p: float) -> str:
    """A p-value to 2 digits: `0.41`, `0.012`, `<0.001`."""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def percent(share: float) -> str:
    """A share (0 to 1) as whole percent; what is neither none nor all never reads 0% or 100%."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def plural(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s"


def shown(value: Any) -> str:
    """A parameter's value as one writes it in YAML; floats to 4 significant digits, a timeline by its name."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return repr(value) if _looks_like_another(value) else printable(value)
    if isinstance(value, Mapping) and "keyframes" in value and value.get("name"):
        return printable(str(value["name"]))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{printable(str(key))}: {shown(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(shown(entry) for entry in value) + "]"
    return printable(str(value))


def _looks_like_another(text: str) -> bool:
    """Whether a string, written bare, would be taken for a number, a bool or nothing."""
    if text.strip() != text or text in ("", "null", "true", "false"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def printable(text: str) -> str:
    """`text` without line breaks and control characters, which could garble a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def short_names(paths: Sequence[str]) -> list[str]:
    """Each path's last part, where no other path ends alike; a loss weight stays whole, for it is no loss."""
    lasts = [path if path.startswith("loss_weights.") else path.rpartition(".")[2] for path in paths]
    return [printable(last if lasts.count(last) == 1 else path) for path, last in zip(paths, lasts, strict=True)]


def short(text: str, width: int) -> str:
    """`text`, cut to `width` characters."""
    return text if len(text) <= width else text[: width - 3] + "..."


def level_labels(levels: Sequence[tuple[Any, float | None, float | None]], log: bool) -> list[str]:
    """A label for each level of a parameter, given as (value, low, high): `AdamW`, `1.0e-03 to 3.2e-03`.

    Numbers have as few significant digits, from 2, as tell the levels apart; `log` ones an exponent.
    """
    bounds = [(value, value) if low is None else (low, high) for value, low, high in levels]
    numeric = all(is_number(low) and is_number(high) for low, high in bounds)
    if not numeric or not (log or any(low is not None for _, low, _ in levels)):
        return [shown(value) for value, _, _ in levels]
    labels: list[str] = []
    for digits in range(2, 8):
        pairs = [(_short_number(low, digits, log), _short_number(high, digits, log)) for low, high in bounds]
        labels = [low if low == high else f"{low} to {high}" for low, high in pairs]
        told = all((low == high) == (first == last) for (low, high), (first, last) in zip(bounds, pairs, strict=True))
        if told and len({*labels}) == len(labels):
            break
    return labels


def _short_number(number: Any, digits: int, log: bool) -> str:
    if isinstance(number, int):
        return str(number)
    return f"{number:.{digits - 1}e}" if log else f"{number:.{digits}g}"
