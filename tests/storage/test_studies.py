"""Studies in a folder: made, opened, found (contracts C2, C6, C11)."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from killing import Killed, kill_at
from making import close, make, row_of, space_of

from tuner.errors import StudyNotFoundError, TunerError, UsageError
from tuner.search_space import Target, build_space
from tuner.search_space.file import SpaceFile
from tuner.storage.connect import connect
from tuner.storage.studies import Studies, mark_ready


def test_a_study_is_made_once_and_then_opened(tmp_path):
    opened = make(tmp_path)
    assert not opened.existed
    opened.study.add_trial(optuna.trial.create_trial(value=1.5))
    close(opened)
    again = Studies(tmp_path).open("s", space_of(), "hash", 1)
    assert again.existed
    assert [trial.value for trial in again.study.trials] == [1.5]
    assert again.files == tmp_path / "s"
    close(again)


@pytest.mark.parametrize(("metric", "direction"), [("val_accuracy", "MAXIMIZE"), ("val_loss", "MINIMIZE")])
def test_the_direction_is_the_metrics(tmp_path, metric, direction):
    content = {"task": "t", "metric": metric, "modes": {"full": {"trials": 1}}}
    space = build_space(Target("t", SpaceFile.model_validate(content), "x"), "full")
    opened = make(tmp_path, space=space)
    assert opened.study.direction.name == direction
    close(opened)


def build(folder: Path) -> None:
    """Make a study as a search does, unless it is there."""
    opened = Studies(folder).open("s", space_of(), "hash", 1)
    if not opened.existed:
        with opened.storage.transaction():
            opened.study.enqueue_trial({"learning_rate": 0.01})
            mark_ready(opened.study)
    close(opened)


def content(folder: Path) -> tuple[dict[str, Any], list[Any]]:
    found = Studies(folder).load("s")
    rows = [(trial.number, trial.state, trial.system_attrs) for trial in found.study.trials]
    close(found)
    return found.study.user_attrs, rows


def test_a_study_whose_making_was_cut_short_at_any_write_is_made_anew(tmp_path, monkeypatch):
    connect(tmp_path / "empty.db").engine.dispose()

    def dying(path: Path) -> optuna.storages.RDBStorage:
        storage = connect(path)
        engines.append(storage.engine)
        kill_at(engines[-1], deaths)
        return storage

    build(tmp_path / "whole")
    engines: list[sqlalchemy.Engine] = []
    deaths, died = 0, True
    while died:
        folder = tmp_path / str(deaths)
        folder.mkdir()
        shutil.copy(tmp_path / "empty.db", folder / "s.db")
        with monkeypatch.context() as patch:
            patch.setattr("tuner.storage.studies.connect", dying)
            try:
                build(folder)
                died = False
            except Killed:
                deaths += 1
        engines[-1].dispose()
        build(folder)
        assert content(folder) == content(tmp_path / "whole"), f"killed at write {deaths}"
    assert deaths >= 3


def test_a_study_made_by_plain_optuna_is_not_deleted(tmp_path):
    """It has no mark of ours, but hours of work in it: nothing may be lost (contract C2)."""
    plain = optuna.create_study(study_name="s", storage=f"sqlite:///{tmp_path / 's.db'}")
    for value in (1.0, 2.0, 3.0):
        plain.add_trial(optuna.trial.create_trial(value=value))
    plain._storage._backend.engine.dispose()
    with pytest.raises(TunerError, match=r"s\.db|--study"):
        close(Studies(tmp_path).open("s", space_of(), "hash", 1))
    again = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 's.db'}")
    assert [trial.value for trial in again.trials] == [1.0, 2.0, 3.0]


def test_names_and_the_newest(tmp_path):
    studies = Studies(tmp_path / "studies")
    assert studies.names() == []
    assert studies.newest() is None
    for seconds, name in ((300, "beta"), (100, "gamma"), (200, "alpha.2")):
        close(make(studies.folder, name))
        os.utime(studies.database(name), (seconds, seconds))
    (studies.folder / "beta").mkdir()
    (studies.folder / "notes.txt").write_text("")
    studies.lock("beta").touch()
    assert studies.names() == ["alpha.2", "beta", "gamma"]
    assert studies.newest() == "beta"


def test_reading_a_study_does_not_make_it_the_newest(tmp_path):
    for name, at in (("older", 1_000_000), ("newer", 2_000_000)):
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / name}.db")
        with storage.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        optuna.create_study(study_name=name, storage=storage)
        storage.engine.dispose()
        os.utime(tmp_path / f"{name}.db", (at, at))
    assert len(Studies(tmp_path).read("older")) == 0
    assert Studies(tmp_path).newest() == "newer"


def test_the_newest_is_the_one_written_last_even_if_it_still_runs_or_was_killed(tmp_path):
    """In WAL mode a write changes `old.db-wal`, not `old.db`, until the connection is closed in order."""
    running = make(tmp_path, "old")
    close(make(tmp_path, "new"))
    os.utime(tmp_path / "old.db", (100, 100))
    os.utime(tmp_path / "new.db", (200, 200))
    running.study.add_trial(optuna.trial.create_trial(value=1.0))
    log = tmp_path / "old.db-wal"
    assert log.stat().st_size > 0
    os.utime(tmp_path / "old.db", (100, 100))
    os.utime(log, (300, 300))
    assert Studies(tmp_path).newest() == "old"
    close(running)


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", ".hidden", "-x", "a.db", "é", "a\n"])
def test_a_name_that_makes_no_file_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="--study"):
        Studies(tmp_path).open(name, space_of(), "hash", 1)
    assert list(tmp_path.iterdir()) == []


def test_loading_by_name_by_path_and_what_is_not_there(tmp_path):
    close(make(tmp_path / "studies", "digits-full"))
    studies = Studies(tmp_path / "studies")
    for name in ("digits-full", str(tmp_path / "studies" / "digits-full.db")):
        found = studies.load(name)
        assert found.existed
        assert found.study.study_name == "digits-full"
        assert found.files == tmp_path / "studies" / "digits-full"
        close(found)
    with pytest.raises(StudyNotFoundError, match=r"'digits-ful'.*Did you mean 'digits-full'"):
        studies.load("digits-ful")
    with pytest.raises(StudyNotFoundError, match=r"nowhere\.db"):
        studies.load(str(tmp_path / "nowhere.db"))
    with pytest.raises(StudyNotFoundError):
        Studies(tmp_path / "none").load("digits-full")
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "nowhere.db").exists()


def test_a_study_given_by_path_has_its_files_beside_it(tmp_path):
    close(make(tmp_path / "elsewhere"))
    found = Studies(tmp_path / "studies").load(str(tmp_path / "elsewhere" / "s.db"))
    assert found.files == tmp_path / "elsewhere" / "s"
    close(found)


def test_a_database_without_a_study(tmp_path):
    (tmp_path / "s.db").touch()
    with pytest.raises(StudyNotFoundError, match=r"s\.db.*no study"):
        Studies(tmp_path).load("s")


def test_a_renamed_database_still_opens(tmp_path):
    close(make(tmp_path, "before"))
    shutil.move(tmp_path / "before.db", tmp_path / "after.db")
    found = Studies(tmp_path).load("after")
    assert found.study.study_name == "before"
    close(found)


def test_plain_optuna_and_pandas_read_a_study(tmp_path):
    opened = make(tmp_path)
    trial = opened.study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.set_user_attr("recipe", {"model": {"sizes": [3, 3]}})
    trial.report(0.7, 1)
    opened.epochs.write([row_of(0, 1, {"val_loss": 0.7})])
    opened.study.tell(trial, 0.5)
    close(opened)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 's.db'}")
    frame = study.trials_dataframe()
    assert list(frame["value"]) == [0.5]
    assert list(frame["state"]) == ["COMPLETE"]
    assert frame["params_x"].between(0, 1).all()
    assert study.best_trial.intermediate_values == {1: 0.7}
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert len(study.trials) == 3
    study._storage._backend.engine.dispose()


def test_a_plain_optuna_study_can_be_loaded(tmp_path):
    plain = optuna.create_study(study_name="mine", storage=f"sqlite:///{tmp_path / 'mine.db'}")
    plain.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    plain._storage._backend.engine.dispose()
    found = Studies(tmp_path).load("mine")
    assert len(found.study.trials) == 2
    assert found.epochs.read() == []
    close(found)


def test_a_view_shows_what_loading_shows_and_cannot_be_written(tmp_path):
    study = optuna.create_study(study_name="s", storage=f"sqlite:///{tmp_path / 's.db'}")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    before = (tmp_path / "s.db").read_bytes()
    seen = Studies(tmp_path).view("s")
    assert seen.trials == study.trials
    with pytest.raises(optuna.exceptions.StorageInternalError):
        seen.set_user_attr("key", 1)
    assert (tmp_path / "s.db").read_bytes() == before
    with pytest.raises(StudyNotFoundError):
        Studies(tmp_path).view("t")


def plain(file: Path, *names: str) -> None:
    """A database of studies by plain Optuna, the second one with two trials, and so on."""
    for count, name in enumerate(names, 1):
        study = optuna.create_study(study_name=name, storage=f"sqlite:///{file}")
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=count)


def test_of_several_studies_in_a_file_one_is_chosen_by_name(tmp_path):
    plain(tmp_path / "many.db", "one", "two: more")
    studies = Studies(tmp_path)
    with pytest.raises(UsageError, match=r"2 studies.*many\.db:one, .*many\.db:two: more"):
        studies.read("many")
    assert len(studies.read(f"{tmp_path / 'many.db'}:two: more")) == 2
    assert len(studies.load(f"{tmp_path / 'many.db'}:one").study.trials) == 1
    with pytest.raises(StudyNotFoundError, match="one"):
        studies.read(f"{tmp_path / 'many.db'}:onee")
    plain(tmp_path / "many.db", "many")
    assert len(studies.read("many")) == 1, "the one of the file's name"


def test_a_file_of_any_name_can_be_the_newest(tmp_path):
    plain(tmp_path / "étude 1.db", "mine")
    studies = Studies(tmp_path)
    assert len(studies.read(studies.newest())) == 1


def test_what_a_study_knows_of_itself(tmp_path):
    opened = make(tmp_path, task_hash="abc")
    known = opened.study.user_attrs
    assert known["space"]["search"]["learning_rate"] == {"type": "float", "low": 1e-4, "high": 0.1, "log": True}
    assert known["space"]["metric"] == "val_loss"
    assert known["space"]["sampler"] == "random"
    assert known["task_hash"] == "abc"
    assert known["budget"]["trials"] == 20
    assert known["versions"]["optuna"] == optuna.__version__
    json.dumps(known)
    close(opened)
