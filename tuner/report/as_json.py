"""An analysis as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis
    from tuner.analysis.confirmation import Confirmation
    from tuner.analysis.several import Several


SCHEMA = 1
"""The number of the schema in docs/analysis-files.md: another one where a key goes, or changes what it means."""


def analysis_json(analysis: Analysis) -> dict[str, Any]:
    """The analysis as dicts, lists, strings, numbers, bools and None; the keys are the fields' names.

    NaN and infinity, which JSON has no word for, are None. Numbers are not rounded.
    """
    return {"schema": SCHEMA, **_analysis(analysis)}


def several_json(several: Several) -> dict[str, Any]:
    """Several studies: `studies` are their analyses as `analysis_json` has them, `comparison` is all else."""
    plain = {field.name: getattr(several, field.name) for field in fields(several) if field.name != "studies"}
    comparison = {name: _plain(_dicts(value)) for name, value in plain.items()}
    return {"schema": SCHEMA, "studies": [_analysis(entry) for entry in several.studies], "comparison": comparison}


def _analysis(analysis: Analysis) -> dict[str, Any]:
    counts = analysis.counts
    plain = asdict(analysis)
    plain["counts"] |= {"total": counts.total, "counted": counts.counted}
    return {str(key): _plain(value) for key, value in plain.items()}


def _dicts(value: Any) -> Any:
    """Dataclasses, also those in a tuple, as dicts."""
    if isinstance(value, tuple):
        return [_dicts(entry) for entry in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def confirmation_json(found: Confirmation) -> dict[str, Any]:
    """A confirmation in the same way."""
    return {str(key): _plain(value) for key, value in asdict(found).items()}


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
