"""Transactions of the storage: all or nothing, conflicts with other processes, and what they cost."""

from __future__ import annotations

import math
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from killing import Killed, kill_at, kill_at_statement
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.pruners import MedianPruner, SuccessiveHalvingPruner
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.storage.batched import BatchedStorage
from tuner.storage.bulk import ConflictError
from tuner.storage.epochs import EpochRow, EpochRows

Open = Callable[..., RDBStorage]
UNIT = FloatDistribution(0, 1)


def study_in(storage: RDBStorage | BatchedStorage, **options: Any) -> optuna.Study:
    return optuna.create_study(study_name="s", storage=storage, load_if_exists=True, **options)


@pytest.fixture(params=["bulk", "by_orm"])
def storage(open_database: Open, request: pytest.FixtureRequest) -> BatchedStorage:
    """A storage with the study "s"; it and its tests come twice, the second time by Optuna's own methods."""
    storage = BatchedStorage(open_database())
    if request.param == "by_orm":
        storage._bulk = False
    study_in(storage)
    return storage


@contextmanager
def failing(storage: BatchedStorage, error: Any, match: str | None = None) -> Iterator[None]:
    """A transaction that ends with `error`."""
    with pytest.raises(error, match=match), storage.transaction():
        yield


def table(storage: RDBStorage | BatchedStorage, times: bool = False) -> list[str]:
    """All that a storage knows of its studies' trials, in words, for NaN is not equal to NaN."""
    studies = storage.get_all_studies()
    trials = [trial for study in studies for trial in storage.get_all_trials(study._study_id)]
    return [words(trial, times) for trial in trials]


def words(trial: FrozenTrial, times: bool = False) -> str:
    known = (trial.params, trial.distributions, trial.intermediate_values, trial.user_attrs, trial.system_attrs)
    content = [sorted(mapping.items(), key=lambda item: str(item[0])) for mapping in known]
    when = (trial.datetime_start, trial.datetime_complete) if times else ()
    return repr((trial._trial_id, trial.number, trial.state, trial.values, content, when))


def everything(storage: BatchedStorage) -> None:
    """A transaction with every kind of write in it, on a study with a running and a waiting trial."""
    study, epochs = study_in(storage), EpochRows(storage)
    with storage.transaction():
        running = next(trial for trial in study.trials if trial.state == TrialState.RUNNING)
        storage.set_trial_intermediate_value(running._trial_id, 1, 0.5)
        epochs.write([EpochRow(running._trial_id, running.number, 1, 0.01, 1.0, 0.1, {"val_loss": 0.5})])
        study.tell(running.number, 0.25)
        taken = study.ask()
        taken.suggest_float("x", 0, 1)
        taken.set_user_attr("by", "hand")
        storage.set_trial_system_attr(taken._trial_id, "seen", True)
        new = study.ask({"y": CategoricalDistribution(["a", "b"])})
        new.report(math.nan, 2)
        study.add_trial(create_trial(value=3.0, params={"x": 0.5}, distributions={"x": UNIT}))
        study.set_user_attr("checkpoint", "round-1")
        storage.set_study_system_attr(study._study_id, "sampler", {"drawn": 2})


def prepare(plain: RDBStorage) -> None:
    """Make the study that `everything` is done to."""
    study = study_in(plain)
    study.ask({"x": UNIT}).report(0.75, 0)
    study.enqueue_trial({"x": 0.125})
    EpochRows(BatchedStorage(plain))
    plain.engine.dispose()  # leaves all in the one file, to be copied


@pytest.mark.parametrize("bulk", [True, False], ids=["bulk", "by_orm"])
@pytest.mark.parametrize("kill", [kill_at_statement, kill_at])
def test_killed_at_any_write_nothing_is_written(tmp_path, database, open_database, bulk, kill):
    prepare(open_database())
    before = dump(open_database())
    for write in range(100):
        copy = Path(shutil.copy(database, tmp_path / f"{write}.db"))
        backend = open_database(copy)
        storage = BatchedStorage(backend)
        storage._bulk = bulk
        kill(backend.engine, write)
        try:
            everything(storage)
            died = False
        except Killed:
            died = True
        backend.engine.dispose()
        assert (dump(open_database(copy)) == before) == died, f"killed at write {write}"
        if not died:
            break
    assert write >= (1 if kill is kill_at else 8)


def dump(storage: RDBStorage) -> dict[str, list[Any]]:
    """Every row of every table."""
    with storage.engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        return {name: connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in names}


def test_an_exception_leaves_nothing_in_database_or_memory(storage, open_database):
    study, other = study_in(storage), open_database()
    study.ask().report(1.0, 1)
    before, attributes = table(other), dict(study.user_attrs)
    for error in (ValueError, KeyboardInterrupt):
        with failing(storage, error):
            study.tell(0, 1.0)
            study.ask().suggest_float("x", 0, 1)
            study.set_user_attr("a", 1)
            raise error
    assert table(storage) == table(other) == before
    assert study.user_attrs == attributes
    study.tell(study.ask(), 2.0)
    assert table(storage) == table(other) != before


def test_a_fence_that_refuses_lets_nothing_through_and_is_not_asked_for_reading(storage, open_database):
    study, before, asked = study_in(storage), table(storage), []

    def refuse(connection: sa.Connection) -> None:
        asked.append(connection.exec_driver_sql("SELECT count(*) FROM trials").scalar())
        raise RuntimeError("not yours any more")

    storage.fence = refuse
    with storage.transaction():
        study.get_trials()
    assert asked == []
    with failing(storage, RuntimeError, match="not yours"):
        study.ask()
        study.set_user_attr("a", 1)
    assert asked == [0]
    assert table(storage) == table(open_database()) == before
    assert study.user_attrs == {}


def test_what_a_fence_writes_is_part_of_the_transaction(storage):
    renewed = sa.text("UPDATE studies SET study_name = study_name || '.'")
    storage.fence = lambda connection: connection.execute(renewed)
    study = optuna.load_study(study_name="s", storage=storage)
    with failing(storage, Exception, match="no such table"):
        storage.set_study_user_attr(study._study_id, "a", 1)
        storage.execute(sa.text("INSERT INTO nowhere VALUES (1)"), [])
    assert [entry.study_name for entry in storage.get_all_studies()] == ["s"]
    with storage.transaction():
        storage.set_study_user_attr(study._study_id, "a", 1)
    assert [entry.study_name for entry in storage.get_all_studies()] == ["s."]


def test_one_transaction_within_another_is_part_of_it(storage, open_database):
    study, other = study_in(storage), open_database()
    with storage.transaction():
        with storage.transaction():
            study.ask()
        assert table(other) == []
        assert len(table(storage)) == 1
    assert len(table(other)) == 1
    with failing(storage, ValueError, match="outer"):
        with storage.transaction():
            study.ask()
        raise ValueError("outer")
    assert table(storage) == table(other)
    assert len(table(other)) == 1


# Conflicts.


def test_a_trial_that_another_process_added_in_between_is_a_conflict(storage, open_database):
    study, other = study_in(storage), study_in(open_database())
    with failing(storage, ConflictError):
        assert study.ask().number == 0
        other.ask().set_user_attr("whose", "another's")
    assert [trial.user_attrs for trial in study.trials] == [{"whose": "another's"}]
    with storage.transaction():
        assert study.ask().number == 1
    assert table(storage) == table(open_database())


def test_a_trial_added_after_the_first_look_and_before_the_first_ask_is_a_conflict(storage, open_database):
    """Else two trials would have one number."""
    study, other = study_in(storage), study_in(open_database())
    with failing(storage, ConflictError):
        assert study.get_trials() == []
        other.ask()
        study.ask()
    assert [trial.number for trial in study.trials] == [0]


def test_another_studys_new_trial_is_a_conflict_too_for_ids_are_the_databases(storage, open_database):
    study, others = study_in(storage), optuna.create_study(study_name="other", storage=open_database())
    with failing(storage, ConflictError):
        study.ask()
        others.ask()
    with storage.transaction():
        mine = study.ask()
    assert mine._trial_id not in {trial._trial_id for trial in others.trials}


@pytest.mark.parametrize("ended", [False, True])
def test_a_waiting_trial_that_another_process_took_is_a_conflict(storage, open_database, ended):
    study, other = study_in(storage), study_in(open_database())
    study.enqueue_trial({"x": 0.5})
    with failing(storage, (ConflictError, optuna.exceptions.UpdateFinishedTrialError)):
        assert study.ask().number == 0
        study.set_user_attr("asked", True)
        taken = other.ask()
        assert taken.number == 0
        if ended:
            other.tell(taken, 1.0)
    assert study.user_attrs == {}
    with storage.transaction():
        assert study.ask().number == 1
    assert table(storage) == table(open_database())


def test_writes_without_new_trials_conflict_with_no_one(storage, open_database):
    study, other = study_in(storage), study_in(open_database())
    trial = study.ask()
    with storage.transaction():
        trial.report(1.0, 1)
        other.ask()
        study.tell(trial, 0.5)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert table(storage) == table(open_database())


def test_a_queued_trial_that_another_process_took_is_seen_to_be_taken(storage, open_database):
    """Whoever queued it, it is nobody's until it is taken."""
    study, other = study_in(storage), study_in(open_database())
    with storage.transaction():
        study.enqueue_trial({"x": 0.5})
    other.tell(other.ask(), 1.0)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]
    with storage.transaction():
        assert study.ask().number == 1


def test_another_thread_waits_for_the_transaction_and_is_no_part_of_it(storage, open_database):
    study = study_in(storage)
    with storage.transaction():
        mine, theirs = study.ask(), study.ask()
    reporting = threading.Thread(target=lambda: theirs.report(2.0, 1))
    with failing(storage, ValueError, match="mine"):
        mine.report(1.0, 1)
        reporting.start()
        reporting.join(0.1)
        raise ValueError("mine")
    reporting.join()
    assert [trial.intermediate_values for trial in study.trials] == [{}, {1: 2.0}]
    assert table(storage) == table(open_database())


# What is read from memory.


@contextmanager
def statements(storage: BatchedStorage) -> Iterator[list[str]]:
    """The statements that reach the database."""
    found: list[str] = []

    def execute(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        found.append(statement)

    sa.event.listen(storage.engine, "before_cursor_execute", execute)
    try:
        yield found
    finally:
        sa.event.remove(storage.engine, "before_cursor_execute", execute)


def round_of(study: optuna.Study, trials: list[optuna.Trial], step: int) -> None:
    for trial in trials:
        trial.report(trial.number + step / 10, step)
    for trial in trials:
        trial.should_prune()


@pytest.mark.parametrize("pruner", [MedianPruner(n_startup_trials=0, n_warmup_steps=0), SuccessiveHalvingPruner()])
def test_a_rounds_statements_do_not_grow_with_its_trials(database, open_database, pruner):
    storage = BatchedStorage(open_database())
    study = study_in(storage, pruner=pruner)
    counts = []
    for many in (2, 20):
        with storage.transaction():
            trials = [study.ask() for _ in range(many)]
        with statements(storage) as found, storage.transaction():
            round_of(study, trials, 1)
            assert len(found) <= 4, found
        counts.append(len(found))
    assert counts[1] == counts[0] <= 10, found
    assert table(storage) == table(open_database())


def test_after_a_conflict_and_after_adopting_a_round_still_reads_no_trial(open_database):
    storage = BatchedStorage(open_database())
    study, other = study_in(storage), study_in(open_database())
    trials = [other.ask() for _ in range(20)]
    assert [trial.number for trial in storage.adopt(study._study_id)] == list(range(20))
    with failing(storage, ConflictError):
        study.ask()
        other.ask()
    study.get_trials()
    with statements(storage) as found, storage.transaction():
        for trial in trials:
            storage.set_trial_intermediate_value(trial._trial_id, 1, 0.5)
            storage.get_trial(trial._trial_id)
    assert len(found) < 20, found
    assert table(storage) == table(open_database())


def test_trials_that_were_handed_out_do_not_change(storage):
    study = study_in(storage)
    with storage.transaction():
        trial = study.ask()
        before = storage.get_all_trials(study._study_id, deepcopy=False)[0]
        trial.suggest_float("x", 0, 1)
        trial.report(1.0, 1)
        trial.set_user_attr("a", [1])
        study.tell(trial, 1.0)
    assert (before.params, before.intermediate_values, before.user_attrs) == ({}, {}, {})
    assert before.state == TrialState.RUNNING


def test_a_callers_later_changes_reach_neither_memory_nor_database(storage, open_database):
    study = study_in(storage)
    attribute, values = {"epochs": [1]}, [1.0]
    with storage.transaction():
        trial = study.ask()
        trial.set_user_attr("kept", attribute)
        study.set_user_attr("kept", attribute)
        storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, values)
        attribute["epochs"].append(2)
        values.append(2.0)
        assert study.user_attrs == {"kept": {"epochs": [1]}}
    found = study_in(open_database())
    assert found.user_attrs == found.trials[0].user_attrs == {"kept": {"epochs": [1]}}
    assert found.trials[0].values == [1.0]
    assert table(storage) == table(open_database())


def test_attributes_read_in_a_transaction_as_they_will_afterwards(storage):
    study, odd = study_in(storage), {1: (2, None), "n": math.inf}
    study.set_user_attr("old", 0)
    with storage.transaction():
        trial = study.ask()
        trial.set_user_attr("odd", odd)
        study.set_user_attr("odd", odd)
        study.set_user_attr("old", 1)
        storage.set_study_system_attr(study._study_id, "odd", odd)
        within = (study.trials[0].user_attrs, study.user_attrs, storage.get_study_system_attrs(study._study_id))
        with pytest.raises(TypeError):
            study.set_user_attr("not JSON", object())
    assert within == (study.trials[0].user_attrs, study.user_attrs, storage.get_study_system_attrs(study._study_id))
    assert study.user_attrs == {"old": 1, "odd": {"1": [2, None], "n": math.inf}}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 5e-324, 0.1 + 0.2])
def test_reports_and_values_come_back_bit_for_bit(storage, open_database, value):
    study = study_in(storage)
    with storage.transaction():
        trial = study.ask()
        trial.report(value, 1)
        if not math.isnan(value):
            study.tell(trial, value)
    found = open_database().get_all_trials(study._study_id)[0]
    assert repr(found.intermediate_values) == repr({1: value})
    if not math.isnan(value):
        assert repr(found.value) == repr(value)
    assert table(storage) == table(open_database())


def test_several_objectives(open_database):
    storage = BatchedStorage(open_database())
    study = study_in(storage, directions=[StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE])
    with storage.transaction():
        study.tell(study.ask(), [math.inf, -1.5])
    assert open_database().get_all_trials(study._study_id)[0].values == [math.inf, -1.5]


def test_a_parameter_that_is_set_again_does_not_tear_a_transaction_apart(storage, open_database):
    """Where a row is there already, Optuna's own method rolls back, and says nothing."""
    trial = study_in(storage).ask({"x": UNIT})
    before = table(storage)
    with failing(storage, Exception, "no such table"):
        storage.set_trial_intermediate_value(trial._trial_id, 1, 0.5)
        storage.set_trial_param(trial._trial_id, "x", 0.25, UNIT)
        storage.set_trial_user_attr(trial._trial_id, "a", 1)
        storage.execute(sa.text("INSERT INTO nowhere VALUES (1)"), [])
    assert table(storage) == table(open_database()) == before
    with storage.transaction():
        storage.set_trial_intermediate_value(trial._trial_id, 1, 0.5)
        storage.set_trial_param(trial._trial_id, "x", 0.25, UNIT)
        storage.set_trial_user_attr(trial._trial_id, "a", 1)
    found = storage.get_trial(trial._trial_id)
    assert (found.intermediate_values, found.user_attrs) == ({1: 0.5}, {"a": 1})
    assert table(storage) == table(open_database())


# Forgetting, pickling.


@pytest.mark.parametrize("parameters", [True, False])
def test_a_forgotten_trial_runs_anew_even_within_one_transaction(storage, open_database, parameters):
    study = study_in(storage, pruner=SuccessiveHalvingPruner())
    with storage.transaction():
        trial, other = study.ask(), study.ask()
    for each in (trial, other):
        each.suggest_float("x", 0, 1)
        each.report(0.5, 1)
        each.report(0.4, 2)
        each.should_prune()
        each.set_user_attr("kept", True)
        storage.set_trial_system_attr(each._trial_id, "completedXrung", "not a pruner's")
        storage.set_trial_system_attr(each._trial_id, "tpe:relative_params:0", {"x": 0.5})
    x = trial.params["x"]
    with storage.transaction():
        storage.set_trial_intermediate_value(trial._trial_id, 3, 0.3)
        storage.forget(trial._trial_id, parameters=parameters)
        forgotten = storage.get_trial(trial._trial_id)
        storage.set_trial_intermediate_value(trial._trial_id, 1, 0.75)
        storage.set_trial_system_attr(trial._trial_id, "completed_rung_0", 0.75)
        if parameters:
            storage.set_trial_param(trial._trial_id, "x", 0.25, UNIT)
    assert forgotten.intermediate_values == {}
    assert forgotten.params == ({} if parameters else {"x": x})
    assert forgotten.system_attrs == {"completedXrung": "not a pruner's"}
    assert forgotten.user_attrs == {"kept": True}
    again, untouched = open_database().get_all_trials(study._study_id)
    assert again.intermediate_values == {1: 0.75}
    assert again.params == {"x": 0.25 if parameters else x}
    assert again.system_attrs == {**forgotten.system_attrs, "completed_rung_0": 0.75}
    assert len(untouched.intermediate_values) == 2
    assert "tpe:relative_params:0" in untouched.system_attrs
    assert table(storage) == table(open_database())


def test_a_pickled_storage_opens_the_same_file_with_a_memory_of_its_own(storage, open_database):
    study = study_in(storage)
    trial = study.ask()
    with storage.transaction():
        trial.report(1.0, 1)
        copy = pickle.loads(pickle.dumps(storage))
        assert copy.get_all_trials(study._study_id)[0].intermediate_values == {}
    assert table(copy) == table(storage)
    study_in(copy).tell(study_in(copy).ask(), 2.0)
    assert table(storage) == table(copy) == table(open_database())
    copy.engine.dispose()


def test_plain_optuna_finds_what_was_written_and_goes_on(storage, open_database):
    study = study_in(storage)
    with storage.transaction():
        for value in (0.5, 0.25):
            study.tell(study.ask({"x": UNIT}), value)
    plain = study_in(open_database())
    assert table(storage, times=True) == table(open_database(), times=True)
    plain.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]
    assert table(storage, times=True) == table(open_database(), times=True)
    assert study.best_trial.value == plain.best_trial.value
