"""The trials of a study as CSV: one row a trial, with columns that stay what they are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import UsageError
from tuner.files import write_atomically
from tuner.report.target import check_target
from tuner.storage.connect import is_database

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    import pandas as pd

STDOUT = Path("-")
"""The file's name that means standard output."""

TEXTS = frozenset({"state", "reason", "enqueued", "infeasible", "weights", "started", "completed"})
"""Fixed columns that hold text as it is."""


def trials_csv(frame: pd.DataFrame) -> str:
    """The frame of `trials_frame` as CSV: a header, then one row a trial, lines ended by a line feed.

    An empty cell: there is nothing, as where a parameter was not active. Texts of fixed columns stand as they are,
    times in ISO 8601. Every other cell is JSON: `0.01`, `true`, `[8, 8]`, `Infinity`, and `null` where a parameter's
    value is None; but a string stands bare unless it is JSON itself: `Adam` is `Adam`, the string `1` is `"1"`.
    Floats are not rounded.
    """
    from tuner.analysis.trials import FIXED_COLUMNS, cells

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [str(name) for name in frame.columns]
    writer.writerow(names)
    columns = [[_cell(value, name in TEXTS, name in FIXED_COLUMNS) for value in cells(frame, name)] for name in names]
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue()


def _cell(value: Any, text: bool, fixed: bool) -> str:
    from tuner.analysis.trials import is_missing

    if is_missing(value) or type(value).__name__ == "NaTType" or (fixed and value is None):
        return ""
    if text:
        return str(value.isoformat() if hasattr(value, "isoformat") else value)
    if isinstance(value, str) and not _is_json(value):
        return value
    return json.dumps(_plain(value), ensure_ascii=False)


def _is_json(text: str) -> bool:
    """Whether a bare string would be read as something else: as JSON, or as nothing."""
    try:
        json.loads(text)
    except ValueError:
        return not text
    return True


def _plain(value: Any) -> Any:
    """What JSON has no word for as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def check_csv(path: Path, force: bool) -> None:
    """Raise `UsageError` where the table cannot be written; over a file that is there only with `force`."""
    if path == STDOUT:
        return
    if path.is_file() and is_database(path):
        raise UsageError("a database, which is not overwritten", place="--csv", value=str(path))
    check_target(path, "--csv", lambda _: force, hint="Give --force to overwrite it.")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the trials to a file, all of it or nothing (UTF-8)."""
    write_atomically(path, trials_csv(frame).encode())
