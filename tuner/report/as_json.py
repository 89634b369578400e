"""An analysis as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis


def analysis_json(analysis: Analysis) -> dict[str, Any]:
    """The analysis as dicts, lists, strings, numbers, bools and None; the keys are the fields' names.

    NaN and infinity, which JSON has no word for, are None. Numbers are not rounded.
    """
    counts = analysis.counts
    plain = asdict(analysis)
    plain["counts"] |= {"total": counts.total, "counted": counts.counted}
    return {str(key): _plain(value) for key, value in plain.items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence):
        return [_plain(entry) for entry in value]
    return str(value)
