"""Studies in a folder: made, opened, found, compared (contracts C2, C6, C11)."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from killing import Killed, kill_at

from tuner.errors import StudyChangedError, StudyNotFoundError, TunerError, UsageError
from tuner.search_space import SearchSpace, Target, build_space
from tuner.search_space.file import SpaceFile
from tuner.search_space.yaml_file import parse_yaml
from tuner.storage.connect import connect
from tuner.storage.epochs import EpochRow, EpochRows
from tuner.storage.studies import OpenStudy, Studies, check_unchanged, differences, mark_ready, version_changes

SEARCH = """
learning_rate: {low: 1e-4, high: 1e-1, log: true}
optimizer: {choices: [Adam, SGD]}
optimizer_kwargs.momentum: {low: 0.5, high: 0.95, when: {optimizer: SGD}}
model.sizes: {choices: [[3, 3], [5, 3], {k: [1, null]}, null]}
"""


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def space_of(search: str = SEARCH, recipe: Any = None, **mode: Any) -> SearchSpace:
    content = {
        "task": "sketch",
        "recipe": {"epochs": 5, "model": {"tau": 2.0}, **(recipe or {})},
        "modes": {"full": {"sampler": "random", "trials": 20, "search": parse_yaml(search, "x"), **mode}},
    }
    return build_space(Target("sketch", SpaceFile.model_validate(content), "space.yaml"), "full")


def make(folder: Path, name: str = "s", space: SearchSpace | None = None, task_hash: str = "hash") -> OpenStudy:
    opened = Studies(folder).open(name, space or space_of(), task_hash, 1)
    mark_ready(opened.study)
    return opened


def close(opened: OpenStudy) -> None:
    opened.storage.engine.dispose()


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


def changed_spaces() -> list[tuple[dict[str, Any], str]]:
    """A change of what decides the trials, and the line that shows it."""
    wider = SEARCH.replace("high: 1e-1", "high: 0.5")
    fewer = "\n".join(line for line in SEARCH.splitlines() if "momentum" not in line)
    return [
        ({"search": wider}, r"search\.learning_rate\.high: 0\.1 -> 0\.5"),
        ({"search": SEARCH + "batch_size: {choices: [16, 32]}\n"}, r"search\.batch_size\.choices: nothing -> \[16, 32"),
        ({"search": fewer}, r"search\.optimizer_kwargs\.momentum\.low: 0\.5 -> nothing"),
        ({"recipe": {"epochs": 6}}, r"recipe\.epochs: 5 -> 6"),
        ({"recipe": {"model": {"tau": 3.0}}}, r"recipe\.model\.tau: 2\.0 -> 3\.0"),
        ({"recipe": {"early_stopping": {"patience": 3}}}, r"recipe\.early_stopping\.patience: nothing -> 3"),
        ({"sampler": "tpe"}, "sampler: random -> tpe"),
        ({"pruner": "median"}, "pruner: none -> median"),
        ({"pruner": "median", "pruner_kwargs": {"n_warmup_steps": 2}}, r"pruner_kwargs\.n_warmup_steps: nothing -> 2"),
        ({"study_seed": 7}, "study_seed: 0 -> 7"),
        ({"parallel": 4}, "parallel: 1 -> 4"),
        ({"constraints": ["epochs < 9"]}, r"constraints: \[\] -> .*epochs < 9"),
        ({"derived": {"batch_size": "epochs * 2"}}, r"derived\.batch_size: nothing -> epochs \* 2"),
    ]


@pytest.mark.parametrize(("changed", "line"), changed_spaces(), ids=[line for _, line in changed_spaces()])
def test_a_changed_setting_is_shown_and_refused_unless_accepted(tmp_path, changed, line):
    opened = make(tmp_path)
    space = space_of(**{"search": SEARCH, **changed})
    with pytest.raises(StudyChangedError) as caught:
        check_unchanged(opened.study, space, "hash", 1, accept=False)
    message = str(caught.value)
    assert re.search(line, message)
    assert "--accept-changes" in message
    assert "--study" in message
    assert differences(opened.study, space_of(), "hash") == [], "a refusal must change nothing"
    accepted = check_unchanged(opened.study, space, "hash", 1, accept=True)
    assert any(re.search(line, entry) for entry in accepted)
    close(opened)
    again = Studies(tmp_path).load("s")
    assert check_unchanged(again.study, space, "hash", 1, accept=False) == []
    assert differences(again.study, space_of(), "hash") != []
    close(again)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (SEARCH.replace("[Adam, SGD]", "[Adam, SGD, AdamW]"), ["optimizer", "'Adam', 'SGD'", "'AdamW'"]),
        (SEARCH.replace("[5, 3]", "[5, 4]"), ["model.sizes", "[5, 3]", "[5, 4]"]),
        (SEARCH.replace("low: 1e-4, high: 1e-1, log: true", "choices: [0.1]"), ["learning_rate", "[0.1]"]),
    ],
)
@pytest.mark.parametrize("accept", [True, False])
def test_other_choices_cannot_be_accepted_for_optuna_keeps_them(tmp_path, search, words, accept):
    opened = make(tmp_path)
    with pytest.raises(StudyChangedError) as caught:
        check_unchanged(opened.study, space_of(search), "hash", 1, accept=accept)
    assert all(word in str(caught.value) for word in [*words, "--study NEW"])
    assert differences(opened.study, space_of(), "hash") == [], "a refusal must change nothing"
    close(opened)


def test_only_what_differs_is_shown(tmp_path):
    opened = make(tmp_path)
    wider = space_of(SEARCH.replace("high: 1e-1", "high: 0.5"))
    assert differences(opened.study, wider, "hash") == ["search.learning_rate.high: 0.1 -> 0.5"]
    close(opened)


@pytest.mark.parametrize(
    "space",
    [
        space_of(),
        space_of("model.x: {low: 0.1, high: 1.05, step: 0.1}"),
        space_of("model.x: {choices: [{1: 2}, [[1], {a: [null, true]}]]}"),
        space_of(recipe={"model": {"layers": {1: 8, 2: 16}, "bound": math.inf, "words": ["on", None, 1.5]}}),
        space_of(recipe={"optimizer_kwargs": {"betas": [0.9, 0.99]}, "early_stopping": {"patience": 2}}),
        space_of(derived={"batch_size": "epochs * 2"}, constraints=["epochs < 99"], pruner="median"),
    ],
    ids=["plain", "step", "nested choices", "nested recipe", "options", "derived"],
)
def test_the_same_space_has_no_differences_after_reopening(tmp_path, space):
    close(make(tmp_path, space=space))
    again = Studies(tmp_path).load("s")
    assert differences(again.study, space, "hash") == []
    close(again)


def test_the_budget_may_grow_and_is_stored(tmp_path):
    opened = make(tmp_path)
    for budget in ({"trials": 500}, {"trials": 500, "time": "2h"}, {"trials": 500, "stop_without_improvement": 9}):
        assert check_unchanged(opened.study, space_of(**budget), "hash", 1, accept=False) == []
    assert opened.study.user_attrs["budget"] == {"trials": 500, "seconds": None, "stop_without_improvement": 9}
    close(opened)


def test_a_changed_task_is_a_difference(tmp_path):
    opened = make(tmp_path, task_hash="one")
    with pytest.raises(StudyChangedError, match="source file has changed"):
        check_unchanged(opened.study, space_of(), "two", 1, accept=False)
    assert check_unchanged(opened.study, space_of(), "two", 1, accept=True) == ["the task's source file has changed"]
    assert check_unchanged(opened.study, space_of(), "two", 1, accept=False) == []
    close(opened)


def test_other_versions_and_threads_are_told_and_no_difference(tmp_path):
    opened = make(tmp_path)
    assert version_changes(opened.study, 1) == []
    assert version_changes(opened.study, 4) == ["threads 1 -> 4"]
    opened.study.set_user_attr("versions", {**opened.study.user_attrs["versions"], "torch": "1.0"})
    assert [line.startswith("torch 1.0 -> ") for line in version_changes(opened.study, 1)] == [True]
    assert check_unchanged(opened.study, space_of(), "hash", 4, accept=False) == []
    close(opened)


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


def row_of(trial: int, epoch: int, metrics: dict[str, float], norm: float = 1.0) -> EpochRow:
    return EpochRow(trial + 1, trial, epoch, 0.01, norm, 0.25, metrics)


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
