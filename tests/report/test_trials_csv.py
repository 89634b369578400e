"""The table of trials as CSV: what stands in it comes back."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tuner.analysis.trials import FIXED_COLUMNS
from tuner.errors import UsageError
from tuner.report.as_csv import check_csv, trials_csv, write_csv

TEXTS = ("state", "reason", "enqueued", "infeasible", "weights", "started", "completed")


def read(text: str) -> list[dict[str, Any]]:
    """As docs/analysis-files.md says to read it."""

    def cell(name: str, content: str) -> Any:
        if content == "":
            return ...
        if name in TEXTS:
            return content
        try:
            return json.loads(content)
        except ValueError:
            return content

    return [{name: cell(name, content) for name, content in row.items()} for row in csv.DictReader(io.StringIO(text))]


VALUES = [
    0.1 + 0.2, 1e-300, 7, True, None, "Adam", "1", "null", "", "true", '"', "a,b", "two\nlines", " lead", "é",
    [8, 8], [], {"name": "x", "keyframes": [[0, 1.5]]}, "[8, 8]", "nan", "NaN", "-", "+", math.inf,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_parameters_value_comes_back_as_it_was(value: Any) -> None:
    column = pd.Series([None], dtype=object)
    column[0] = value
    (row,) = read(trials_csv(pd.DataFrame({"p": column})))
    assert row == {"p": value}
    assert type(row["p"]) is type(value)


def test_what_is_not_there_is_an_empty_cell() -> None:
    frame = pd.DataFrame({"p": pd.Series([pd.NA, math.nan, None], dtype=object), "value": [math.nan, 1.0, 2.0]})
    frame["started"] = [pd.NaT, pd.Timestamp("2030-01-02 03:04:05.5"), pd.NaT]
    frame["reason"] = pd.Series([None, "7", 'said "no"\nand left'], dtype=object)
    frame["warm_start"] = pd.Series([None, {"study": "s", "trial": 3}, None], dtype=object)
    first, second, third = read(trials_csv(frame))
    assert [*first.values()] == [...] * 5
    assert second == {
        "p": ..., "value": 1.0, "started": "2030-01-02T03:04:05.500000", "reason": "7",
        "warm_start": {"study": "s", "trial": 3},
    }  # fmt: skip
    assert (third["p"], third["reason"]) == (None, 'said "no"\nand left')


def test_a_study_without_trials_is_a_header() -> None:
    assert trials_csv(pd.DataFrame({name: [] for name in FIXED_COLUMNS})) == ",".join(FIXED_COLUMNS) + "\n"


def test_files_that_are_there_are_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    frame = pd.DataFrame({"p": [1]})
    check_csv(path, force=False)
    write_csv(frame, path)
    with pytest.raises(UsageError, match="--force"):
        check_csv(path, force=False)
    check_csv(path, force=True)
    with pytest.raises(UsageError, match="a folder"):
        check_csv(tmp_path, force=True)
    assert path.read_bytes() == b"p\n1\n"
    assert [*tmp_path.iterdir()] == [path]
