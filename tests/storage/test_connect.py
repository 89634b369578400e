"""The database's settings, and what is refused as a database (contract C7)."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from tuner.errors import StorageError
from tuner.search_space import Target, build_space
from tuner.search_space.file import SpaceFile
from tuner.storage import connect as connecting
from tuner.storage.connect import connect, explained, url
from tuner.storage.studies import OpenStudy, Studies, mark_ready


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def space():
    content = {"task": "t", "modes": {"full": {"trials": 1, "search": {"epochs": {"low": 1, "high": 3}}}}}
    return build_space(Target("t", SpaceFile.model_validate(content), "x"), "full")


def filled(path: Path, trials: int = 30) -> None:
    """A study's database with some pages in it."""
    opened = Studies(path.parent).open(path.stem, space(), "hash", 1)
    mark_ready(opened.study)
    for number in range(trials):
        opened.study.add_trial(optuna.trial.create_trial(value=float(number), user_attrs={"text": "x" * 500}))
    opened.storage.engine.dispose()


@pytest.mark.parametrize("fresh", [True, False])
def test_write_ahead_log_and_normal_syncing_are_really_set(tmp_path, fresh):
    path = tmp_path / "deep" / "er" / "s.db"
    if not fresh:
        connect(path).engine.dispose()
    engine = connect(path).engine
    for _ in range(2):
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("PRAGMA journal_mode")).scalar() == "wal"
            assert connection.execute(sqlalchemy.text("PRAGMA synchronous")).scalar() == 2
            assert connection.execute(sqlalchemy.text("PRAGMA busy_timeout")).scalar() == 30_000
        engine.dispose()


def test_the_url_is_one_that_optunas_commands_take(tmp_path):
    path = tmp_path / "with space" / "s.db"
    path.parent.mkdir()
    filled(path, 2)
    study = optuna.load_study(study_name="s", storage=url(path))
    assert len(study.trials) == 2
    study._storage._backend.engine.dispose()


@pytest.mark.parametrize(
    "content",
    [b"hello, world\n", b"SQLite", b"\x00" * 4096, b"SQLite format 3\x00", b"SQLite format 3\x00" + b"\xff" * 5000],
    ids=["text", "a few bytes", "zeros", "only the header", "garbage behind the header"],
)
def test_garbage_is_refused_with_its_path_and_left_alone(tmp_path, content):
    path = tmp_path / "s.db"
    path.write_bytes(content)
    for use in (lambda: connect(path), lambda: Studies(tmp_path).load("s")):
        with pytest.raises(StorageError) as caught:
            use()
        assert str(path) in str(caught.value)
        assert path.read_bytes() == content


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_database_is_a_message_with_its_path(tmp_path, part):
    path = tmp_path / "s.db"
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(StorageError, match="damaged") as caught, explained(path):
        Studies(tmp_path).load("s").study.get_trials()
    assert str(path) in str(caught.value)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "s.db").mkdir()
    with pytest.raises(StorageError, match=r"s\.db.*folder"):
        connect(tmp_path / "s.db")


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "studies").write_text("")
    with pytest.raises(StorageError, match="studies"):
        connect(tmp_path / "studies" / "s.db")


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as mine:
        mine.execute("CREATE TABLE customers (name TEXT)")
    mine.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"s\.db"):
        connect(path).engine.dispose()
    assert path.read_bytes() == before


def test_a_busy_database_is_a_message(tmp_path, monkeypatch):
    path = tmp_path / "s.db"
    filled(path, 1)
    monkeypatch.setattr(connecting, "BUSY_TIMEOUT_SECONDS", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    opened = Studies(tmp_path).open("s", space(), "hash", 1)
    with pytest.raises(StorageError, match=r"s\.db.*locked by another process"), explained(path):
        opened.study.set_user_attr("ended", "")
    with pytest.raises(StorageError, match=r"s\.db.*locked by another process"), explained(path):
        ask_in_a_transaction(opened)
    other.execute("ROLLBACK")
    opened.study.add_trial(optuna.trial.create_trial(value=1.0))
    assert len(opened.study.trials) == 2
    other.close()
    opened.storage.engine.dispose()


def ask_in_a_transaction(opened: OpenStudy) -> None:
    with opened.storage.transaction():
        opened.study.ask()


def test_reading_goes_on_while_another_writes(tmp_path, monkeypatch):
    filled(tmp_path / "s.db", 3)
    monkeypatch.setattr(connecting, "BUSY_TIMEOUT_SECONDS", 0.05)
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    found = Studies(tmp_path).load("s")
    assert len(found.study.trials) == 3
    other.close()
    found.storage.engine.dispose()


def test_an_error_of_our_own_passes_through(tmp_path):
    with pytest.raises(KeyError), explained(tmp_path / "s.db"):
        raise KeyError("mine")
    with pytest.raises(StorageError, match=r"disk is full"), explained(tmp_path / "s.db"):
        raise OSError(28, "No space left on device")


MAKE = "import sys, pathlib; from tuner.storage.connect import connect; input(); connect(pathlib.Path(sys.argv[1]))"


def test_a_database_made_by_several_processes_at_once_serves_them_all(tmp_path):
    """`tuner list` in another terminal while a study is being made must end neither of them."""
    for attempt in range(4):
        command = [sys.executable, "-c", MAKE, str(tmp_path / f"{attempt}.db")]
        pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            assert process.communicate()[1] == ""
            assert process.returncode == 0
