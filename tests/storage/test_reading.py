"""Reading databases of all conditions: nothing is written, held up, or passed over."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial
from same_records import assert_same

from tuner.errors import StorageError, StudyNotFoundError
from tuner.storage.batched import BatchedStorage
from tuner.storage.connect import connect
from tuner.storage.epochs import EpochRow, EpochRows
from tuner.storage.reading import read_only, read_study
from tuner.storage.records import EPOCH_COLUMNS
from tuner.storage.studies import Studies


def a_study(path: Path, count: int = 3, name: str = "s") -> optuna.Study:
    """A study of complete trials, open."""
    study = optuna.create_study(study_name=name, storage=connect(path), load_if_exists=True)
    kind = FloatDistribution(0.0, 1.0)
    study.add_trials(
        [create_trial(value=0.1 * k, params={"x": 0.2 * k}, distributions={"x": kind}) for k in range(count)]
    )
    return study


def close(study: optuna.Study) -> None:
    storage = study._storage
    getattr(storage, "_backend", storage).engine.dispose()


HERE = Path(__file__).resolve().parents[1]
READ = """
import sys
sys.path.insert(0, "crash")
from harm import obey_permissions
obey_permissions()
from pathlib import Path
from tuner.errors import TunerError
from tuner.storage.studies import Studies
try:
    print(len(Studies(Path(sys.argv[1])).read("s")), "trials")
except TunerError as error:
    print("refused:", error)
"""


def read_without_rights(folder: Path) -> str:
    """What another process that obeys permissions makes of the study, its folder write-protected."""
    every = [folder, *folder.iterdir()]
    for path in every:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        done = subprocess.run(
            [sys.executable, "-c", READ, str(folder)], cwd=HERE, capture_output=True, text=True, check=False
        )
    finally:
        for path in every:
            path.chmod(path.stat().st_mode | 0o200)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_a_study_at_rest_is_read_in_a_folder_that_is_read_only(tmp_path: Path) -> None:
    close(a_study(tmp_path / "s.db"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert read_without_rights(tmp_path) == "3 trials"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def killed_amid(path: Path) -> None:
    """Leave the database as a killed process does: its last trials in the log beside it."""
    study = a_study(path, 2)
    with closing(sqlite3.connect(path)) as holder:  # as long as one is open, the log stays
        holder.execute("SELECT 1 FROM trials").fetchone()
        a_study(path, 3)
        for entry in list(path.parent.iterdir()):
            shutil.copy(entry, entry.with_name(f"kept-{entry.name}"))
    close(study)
    for entry in list(path.parent.glob("kept-*")):
        os.replace(entry, entry.with_name(entry.name.removeprefix("kept-")))


def test_trials_that_are_in_the_log_alone_are_read(tmp_path: Path) -> None:
    killed_amid(tmp_path / "s.db")
    assert (tmp_path / "s.db-wal").stat().st_size
    assert len(Studies(tmp_path).read("s")) == 5


@pytest.mark.slow
def test_a_log_that_may_not_be_opened_is_never_passed_over(tmp_path: Path) -> None:
    """To read the file without its log would leave trials out: all of them, or a message."""
    killed_amid(tmp_path / "s.db")
    (tmp_path / "s.db-shm").unlink(missing_ok=True)
    said = read_without_rights(tmp_path)
    assert said == "5 trials" or said.startswith("refused: ")


def killed_while_writing(path: Path) -> None:
    """Leave a database as plain Optuna's process does when it is killed amid a commit: its pages half written."""
    study = optuna.create_study(study_name="s", storage=f"sqlite:///{path}")
    study.add_trials([create_trial(value=1.0, user_attrs={"long": "x" * 2_000}) for _ in range(40)])
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        writer.execute("UPDATE trial_user_attributes SET value_json = replace(value_json, 'x', 'y')")
        writer.execute("UPDATE trials SET state = 'FAIL'")
        for entry in (path, path.with_name(f"{path.name}-journal")):
            shutil.copy(entry, path.with_name(f"kept-{entry.name}"))
        writer.execute("ROLLBACK")
    close(study)
    for entry in list(path.parent.glob("kept-*")):
        os.replace(entry, entry.with_name(entry.name.removeprefix("kept-")))


def test_what_a_killed_process_left_half_written_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    killed_while_writing(path)
    assert b"yyyy" in path.read_bytes(), "the harm is done"
    found = Studies(tmp_path).read("s")
    assert found.states == ["COMPLETE"] * 40
    assert found.notes["long"] == ["x" * 2_000] * 40


@pytest.mark.slow
def test_what_was_left_half_written_in_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    killed_while_writing(tmp_path / "s.db")
    assert read_without_rights(tmp_path).startswith("refused: ")


def test_a_writer_amid_a_transaction_holds_no_reader_up(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    study = a_study(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE trials SET state = 'FAIL'")
        assert Studies(tmp_path).read("s").states == ["COMPLETE"] * 3
        writer.execute("COMMIT")
    assert Studies(tmp_path).read("s").states == ["FAIL"] * 3
    close(study)


def test_a_reader_sees_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that are told while it reads are in none of its columns."""
    from tuner.storage import reading

    path = tmp_path / "s.db"
    study = a_study(path)
    plain, seen = reading._Tables.values, []

    def late(tables: Any) -> Any:
        seen.append(a_study(path, 2))
        return plain(tables)

    monkeypatch.setattr(reading._Tables, "values", late)
    found = Studies(tmp_path).read("s")
    assert len(found) == len(found.values) == len(found.parameters["x"]) == 3
    monkeypatch.undo()
    assert len(Studies(tmp_path).read("s")) == 5
    for entry in (study, *seen):
        close(entry)


@pytest.mark.parametrize(
    ("statement", "words"),
    [("CREATE TABLE notes (x)", "another program's database"), ("CREATE TABLE studies (x)", "error|no study")],
)
def test_databases_of_other_programs_are_refused_in_words(tmp_path: Path, statement: str, words: str) -> None:
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        connection.execute(statement)
    with pytest.raises((StorageError, StudyNotFoundError), match=words):
        Studies(tmp_path).read("s")


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\x00" + b"\x00" * 84, b"no database at all, but text"])
def test_files_that_hold_no_study_are_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.db").write_bytes(content)
    with pytest.raises((StorageError, StudyNotFoundError)):
        Studies(tmp_path).read("s")


def test_a_table_beside_optunas_is_let_alone(tmp_path: Path) -> None:
    close(a_study(tmp_path / "s.db"))
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        connection.execute("CREATE TABLE notes (x)")
    found = Studies(tmp_path).read("s")
    assert len(found) == 3
    assert found.epochs.empty and list(found.epochs.columns) == list(EPOCH_COLUMNS)


@pytest.mark.parametrize("columns", ["trial_id, epoch, train_loss", "trial_id, epoch, metrics, seconds"])
def test_an_older_table_of_epochs_is_passed_over(tmp_path: Path, columns: str) -> None:
    close(a_study(tmp_path / "s.db"))
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        connection.execute(f"CREATE TABLE tuner_epochs ({columns})")
        connection.execute("INSERT INTO tuner_epochs (trial_id, epoch) VALUES (1, 1)")
        connection.commit()
    found = Studies(tmp_path).read("s")
    assert found.epochs.empty
    assert found.metrics([0, 1]) == {}


def test_epoch_rows_are_read_by_trial_and_epoch_whatever_order_they_were_written_in(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    storage = BatchedStorage(connect(path))
    rows = EpochRows(storage)
    for name in ("other", "s"):
        study = optuna.create_study(study_name=name, storage=storage)
        study.add_trials([create_trial(value=0.5), create_trial(value=0.6)])
    ids = [trial._trial_id for trial in study.trials]
    metrics = {"train_loss": 0.5, "val_loss": math.nan, "val_accuracy": 0.25}
    for trial, epoch in ((1, 2), (0, 2), (1, 1), (0, 1)):
        rows.write([EpochRow(ids[trial], trial, epoch, 0.1 * epoch, math.inf, 2.0, metrics)])
    rows.write([EpochRow(1, 0, 1, 0.9, 1.0, 1.0, metrics)])  # of the other study
    found = Studies(tmp_path).read("s")
    assert found.epochs[["trial", "epoch"]].to_numpy().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert found.epochs["learning_rate"].tolist() == [0.1, 0.2, 0.1, 0.2]
    assert found.epochs["val_loss"].isna().all() and found.epochs["gradient_norm"].isna().all()
    assert found.metrics([1]) == {1: {epoch: {**metrics, "val_loss": None} for epoch in (1, 2)}}
    storage.engine.dispose()


def test_a_database_of_an_older_optuna_is_refused_with_what_to_do(tmp_path: Path) -> None:
    close(a_study(tmp_path / "s.db"))
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
        connection.commit()
    with pytest.raises(StorageError, match=r"s\.db: .*optuna storage upgrade"):
        Studies(tmp_path).read("s")


@pytest.mark.parametrize("older", ["UPDATE alembic_version SET version_num = 'v3.0.0.d'", "DROP TABLE alembic_version"])
def test_a_database_that_cannot_be_read_is_left_as_it_is(tmp_path: Path, older: str) -> None:
    close(a_study(tmp_path / "s.db"))
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        connection.execute(older)
        connection.execute("DROP TABLE trial_heartbeats")
        connection.commit()
    before = (tmp_path / "s.db").read_bytes()
    with pytest.raises(StorageError, match=r"s\.db: .*optuna storage upgrade"):
        Studies(tmp_path).read("s")
    assert (tmp_path / "s.db").read_bytes() == before


def test_a_database_of_a_revision_not_known_here_is_read_by_optuna(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(a_study(tmp_path / "s.db"))
    by_sql = Studies(tmp_path).read("s")
    monkeypatch.setattr("tuner.storage.reading.REVISIONS", ("another",))
    assert_same(Studies(tmp_path).read("s"), by_sql)


def test_a_study_that_is_not_there_is_a_key_error(database: Path) -> None:
    with pytest.raises(KeyError):
        read_study(read_only(database), "nowhere")


@pytest.mark.parametrize("name", ["a b", "100%", "%20", "#1", "who?", "é"])
def test_a_file_of_any_name_is_read(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    close(a_study(folder / f"{name}.db"))
    assert len(Studies(folder).read(str(folder / f"{name}.db"))) == 3
