"""Epoch rows: written all or none, and read as they were (contract C2)."""

from __future__ import annotations

import math

import pytest
import sqlalchemy
from making import close, make, row_of

from tuner.storage.epochs import EpochRow, EpochRows
from tuner.storage.studies import OpenStudy, Studies


def test_epoch_rows_come_back_with_nan_as_none(tmp_path):
    opened = make(tmp_path)
    opened.epochs.write(
        [
            row_of(1, 1, {"train_loss": 0.5, "val_loss": math.nan, "val_accuracy": 0.75}, norm=math.inf),
            row_of(0, 2, {"train_loss": -math.inf}, norm=math.nan),
            row_of(0, 1, {"train_loss": 0.1 + 0.2, "val_loss": 1e-300}),
        ]
    )
    opened.epochs.write([])
    close(opened)
    again = Studies(tmp_path).load("s")
    rows = again.epochs.read()
    assert [(row["trial"], row["epoch"]) for row in rows] == [(0, 1), (0, 2), (1, 1)]
    assert rows[0]["train_loss"] == 0.1 + 0.2
    assert rows[0]["val_loss"] == 1e-300
    assert rows[0]["metrics"] == {"train_loss": 0.1 + 0.2, "val_loss": 1e-300}
    assert (rows[1]["train_loss"], rows[1]["val_loss"], rows[1]["gradient_norm"]) == (None, None, None)
    assert rows[2]["metrics"] == {"train_loss": 0.5, "val_loss": None, "val_accuracy": 0.75}
    assert (rows[2]["val_loss"], rows[2]["gradient_norm"], rows[2]["learning_rate"]) == (None, None, 0.01)
    assert again.epochs.read([1]) == rows[:2]
    assert again.epochs.read([10]) == []
    close(again)


def test_a_row_written_twice_is_replaced(tmp_path):
    opened = make(tmp_path)
    opened.epochs.write([row_of(0, 1, {"val_loss": 1.0}), row_of(0, 2, {"val_loss": 2.0})])
    opened.epochs.write([row_of(0, 1, {"val_loss": 3.0})])
    assert [row["val_loss"] for row in opened.epochs.read()] == [3.0, 2.0]
    close(opened)


def test_rows_are_written_all_or_none(tmp_path):
    opened = make(tmp_path)
    bad = EpochRow(1, 0, 2, None, 1.0, 0.1, {})  # type: ignore[arg-type]
    with pytest.raises(Exception, match="learning_rate"):
        opened.epochs.write([row_of(0, 1, {"val_loss": 1.0}), bad])
    assert opened.epochs.read() == []
    close(opened)


def test_epoch_rows_are_written_with_the_transaction_around_them_or_not_at_all(tmp_path):
    opened = make(tmp_path)
    with opened.storage.transaction():
        opened.epochs.write([row_of(0, 1, {"val_loss": 1.0}), row_of(0, 2, {"val_loss": 2.0})])
        opened.epochs.write([row_of(0, 1, {"val_loss": 3.0})])
        assert opened.epochs.read() == []
    with pytest.raises(KeyError):
        write_and_fail(opened)
    assert [row["val_loss"] for row in opened.epochs.read()] == [3.0, 2.0]
    close(opened)


def write_and_fail(opened: OpenStudy) -> None:
    with opened.storage.transaction():
        opened.epochs.write([row_of(0, 1, {"val_loss": 4.0})])
        raise KeyError


def test_epoch_rows_are_a_table_of_their_own(tmp_path):
    """Deleting the study's rows by Optuna leaves ours; ours never touch Optuna's tables."""
    opened = make(tmp_path)
    before = set(RDB_TABLES(opened))
    EpochRows(opened.storage)
    assert set(RDB_TABLES(opened)) == before
    assert "tuner_epochs" in before
    close(opened)


def RDB_TABLES(opened: OpenStudy) -> list[str]:  # noqa: N802
    return sqlalchemy.inspect(opened.storage.engine).get_table_names()
