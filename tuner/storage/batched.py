"""Optuna's storage with a memory and with transactions: what a round brings is written at once or not at all."""

from __future__ import annotations

import copy
import functools
import re
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from json import dumps, loads
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.storage import bulk, by_orm, connect
from tuner.storage.bulk import ConflictError, NewTrial, Writes
from tuner.storage.mirror import Mirror, apart

Method = TypeVar("Method", bound=Callable[..., Any])

Fence = Callable[[sa.Connection], None]
"""Called first in every transaction; may raise to forbid it."""

WAIT_SECONDS = 0.5
"""While another process writes, `while_waiting` is called this often; it may raise to give up."""

NOTED_BY_PRUNERS_AND_SAMPLERS = re.compile("completed_rung_|.*:relative_params")
"""System attributes that a trial which runs anew must not have."""


def _writing(method: Method) -> Method:
    """A write outside a transaction is one of its own, made again where another process was in between."""

    @functools.wraps(method)
    def call(self: BatchedStorage, *arguments: Any, **options: Any) -> Any:
        while True:
            with suppress(ConflictError), self.transaction():
                return method(self, *arguments, **options)

    return cast(Method, call)


class BatchedStorage(BaseStorage):
    """Optuna's `RDBStorage`, read from memory where memory is known to be right, and written in transactions.

        with storage.transaction():
            ...  # any number of calls, also Optuna's own: `study.ask`, `trial.report`, `study.tell`

    A transaction sees the database as it was when it first looked, and its own writes; they reach the database when
    it ends, all or none, and none where an exception leaves the block. It raises `bulk.ConflictError` at its end where
    another process added or took a trial in between; then it is to be made again. Trials that a transaction created,
    took from the queue or adopted are held in memory and not read again, since only their owner changes them.
    A call outside of one is a transaction of its own.
    """

    def __init__(self, backend: RDBStorage) -> None:
        self.backend = backend
        self.fence: Fence | None = None
        self.while_waiting: Callable[[], None] = lambda: None
        self._bulk = backend.get_current_version() in connect.REVISIONS
        self._lock = threading.RLock()
        self._forget_all(own=set())

    def _forget_all(self, own: set[int]) -> None:
        """Begin with an empty memory; only this process changes the trials `own`."""
        self._own = own
        self._names: dict[int, str] = {}
        self._directions: dict[int, list[StudyDirection]] = {}
        self._mirrors: dict[int, Mirror] = {}
        self._writes: Writes | None = None
        self._seen: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {"backend": self.backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["backend"])  # type: ignore[misc]

    @property
    def engine(self) -> sa.Engine:
        """The engine of the database, for tables of our own."""
        return self.backend.engine

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block whose writes are written together; one within another is part of it."""
        with self._lock:
            if self._writes is not None:
                yield
                return
            self._writes, self._seen = Writes(), set()
            own = set(self._own)
            try:
                yield
                self._commit(self._writes)
            except BaseException:
                self._forget_all(own)
                raise
            self._writes = None

    def _commit(self, writes: Writes) -> None:
        if writes == Writes(newest_id=writes.newest_id):
            return
        with self.engine.connect() as connection:
            self._begin(connection)
            if self.fence is not None:
                self.fence(connection)
            if self._bulk:
                bulk.write(connection, writes)
            else:
                by_orm.write(self.backend, connection, writes)
            connection.commit()

    def wait(self) -> None:
        """Return when the database can be written, calling `while_waiting` until then; raises if it stays locked."""
        with self.engine.connect() as connection:
            self._begin(connection)

    def _begin(self, connection: sa.Connection) -> None:
        """Take SQLite's write lock; a plain BEGIN would do so at the first write only, when it may be too late.

        SQLite itself waits a little at a time, so that `while_waiting` is called in between.
        """
        if connection.dialect.name != "sqlite":
            return
        patience = connect.BUSY_TIMEOUT_SECONDS
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(1000 * WAIT_SECONDS)}")
        until = time.monotonic() + patience
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except sa.exc.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                self.while_waiting()
            else:
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(1000 * patience)}")
                return

    @_writing
    def execute(self, statement: sa.Executable, rows: list[dict[str, Any]]) -> None:
        """Execute a statement of our own tables, with the transaction's other writes or by itself."""
        assert self._writes is not None
        self._writes.statements.append((statement, rows))

    def adopt(self, study_id: int) -> list[FrozenTrial]:
        """The RUNNING trials of a study, which from now on only this process changes."""
        with self._lock:
            running = self._mirror(study_id).select((TrialState.RUNNING,))
            self._own.update(trial._trial_id for trial in running)
            return running

    @_writing
    def forget(self, trial_id: int, parameters: bool = True) -> None:
        """Drop the reports of an unfinished trial, what pruners noted, and its `parameters`, for it runs anew."""
        assert self._writes is not None
        trial, mirror = self._open_trial(trial_id)
        stale = [key for key in trial.system_attrs if NOTED_BY_PRUNERS_AND_SAMPLERS.match(key)]
        kept = {key: value for key, value in trial.system_attrs.items() if key not in stale}
        mirror.change(trial_id, intermediate_values={}, system_attrs=kept)
        if parameters:
            mirror.change(trial_id, params={}, distributions={})
        self._writes.forget(trial_id, stale, parameters)

    def _mirror(self, study_id: int) -> Mirror:
        """The study's trials, as the database has them now; within a transaction, when it first looked."""
        if self._writes is not None and study_id in self._seen:
            return self._mirrors[study_id]
        if self._writes is not None and not self._seen:
            with self.engine.connect() as connection:  # before any trial is read, so that no later one goes unnoticed
                self._writes.newest_id = bulk.newest_id(connection)
        mirror = self._mirrors.get(study_id)
        if mirror is None or not self._bulk:
            mirror = self._mirrors[study_id] = Mirror(self._own)
            mirror.put(self.backend.get_all_trials(study_id, deepcopy=False))
        else:
            with self.engine.connect() as connection:
                newer = bulk.newer_ids(connection, study_id, mirror.newest_id)
            mirror.put(self.backend.get_trial(trial_id) for trial_id in [*mirror.stale(), *newer])
        self._seen.add(study_id)
        return mirror

    def _study_of(self, trial_id: int) -> int:
        """The study of a trial; `KeyError` for an unknown one."""
        for study_id, mirror in self._mirrors.items():
            if trial_id in mirror.numbers:
                return study_id
        self.backend.get_trial(trial_id)
        for study in self.backend.get_all_studies():
            if trial_id in self._mirror(study._study_id).numbers:
                return study._study_id
        raise KeyError(trial_id)

    def _open_trial(self, trial_id: int) -> tuple[FrozenTrial, Mirror]:
        """A trial that may be written to, within a transaction, and its mirror."""
        mirror = self._mirror(self._study_of(trial_id))
        trial = mirror.get(trial_id)
        self.check_trial_is_updatable(trial_id, trial.state)
        return trial, mirror

    # Studies.

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self.backend.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        with self._lock:
            self.backend.delete_study(study_id)
            for known in (self._mirrors, self._names, self._directions):
                known.pop(study_id, None)

    def get_study_id_from_name(self, study_name: str) -> int:
        return self.backend.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        if study_id not in self._names:
            self._names[study_id] = self.backend.get_study_name_from_id(study_id)
        return self._names[study_id]

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        if study_id not in self._directions:
            self._directions[study_id] = self.backend.get_study_directions(study_id)
        return list(self._directions[study_id])

    def get_all_studies(self) -> list[Any]:
        return self.backend.get_all_studies()

    @_writing
    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        assert self._writes is not None
        self.get_study_name_from_id(study_id)  # raises KeyError for an unknown study
        self._writes.study_user_attributes[study_id, key] = dumps(value)

    @_writing
    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        assert self._writes is not None
        self.get_study_name_from_id(study_id)  # raises KeyError for an unknown study
        self._writes.study_system_attributes[study_id, key] = dumps(value)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        with self._lock:
            written = {} if self._writes is None else self._writes.study_user_attributes
            return self.backend.get_study_user_attrs(study_id) | _of(study_id, written)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        with self._lock:
            written = {} if self._writes is None else self._writes.study_system_attributes
            return self.backend.get_study_system_attrs(study_id) | _of(study_id, written)

    # Trials, written.

    @_writing
    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        assert self._writes is not None
        mirror, writes = self._mirror(study_id), self._writes
        trial_id, number = writes.newest_id + 1 + len(writes.trials), len(mirror.trials)
        trial = FrozenTrial(
            number=number,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=trial_id,
        )
        if template_trial is not None:
            trial.datetime_start = template_trial.datetime_start
            trial.state = TrialState.WAITING if template_trial.state == TrialState.WAITING else TrialState.RUNNING
        writes.trials.append(NewTrial(trial_id, study_id, number, trial.state, trial.datetime_start))
        mirror.put([trial])
        if trial.state == TrialState.RUNNING:
            self._own.add(trial_id)
        if template_trial is not None:
            self._fill(trial_id, template_trial)
        return trial_id

    def _fill(self, trial_id: int, template: FrozenTrial) -> None:
        """Give a new trial all that its template has."""
        for name, distribution in template.distributions.items():
            self.set_trial_param(trial_id, name, distribution.to_internal_repr(template.params[name]), distribution)
        for key, value in template.user_attrs.items():
            self.set_trial_user_attr(trial_id, key, value)
        for key, value in template.system_attrs.items():
            self.set_trial_system_attr(trial_id, key, value)
        for step, report in template.intermediate_values.items():
            self.set_trial_intermediate_value(trial_id, step, report)
        if template.state.is_finished():
            self._end(trial_id, template.state, template.values, template.datetime_complete or datetime.now())

    @_writing
    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        assert self._writes is not None
        trial, mirror = self._open_trial(trial_id)
        mirror.check_distribution(param_name, distribution)
        value = distribution.to_external_repr(param_value_internal)
        mirror.change(
            trial_id,
            params={**trial.params, param_name: value},
            distributions={**trial.distributions, param_name: distribution},
        )
        self._writes.parameters[trial_id, param_name] = (param_value_internal, distribution)

    @_writing
    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        assert self._writes is not None
        trial, mirror = self._open_trial(trial_id)
        now = datetime.now()
        if state.is_finished():
            self._end(trial_id, state, values, now)
        elif state == TrialState.RUNNING:
            if trial.state != TrialState.WAITING:
                return False
            mirror.change(trial_id, state=state, datetime_start=now)
            self._own.add(trial_id)
            self._writes.claims[trial_id] = now
        else:
            raise NotImplementedError("a trial that was taken from the queue cannot be put back")
        return True

    def _end(self, trial_id: int, state: TrialState, values: Sequence[float] | None, time: datetime) -> None:
        assert self._writes is not None
        _, mirror = self._open_trial(trial_id)
        values = None if values is None else list(values)
        mirror.change(trial_id, state=state, values=values, datetime_complete=time)
        self._writes.ends[trial_id] = (state, values, time)

    @_writing
    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        assert self._writes is not None
        trial, mirror = self._open_trial(trial_id)
        mirror.change(trial_id, intermediate_values={**trial.intermediate_values, step: float(intermediate_value)})
        self._writes.reports[trial_id, step] = float(intermediate_value)

    @_writing
    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        assert self._writes is not None
        trial, mirror = self._open_trial(trial_id)
        text = dumps(value)
        mirror.change(trial_id, user_attrs={**trial.user_attrs, key: loads(text)})
        self._writes.user_attributes[trial_id, key] = text

    @_writing
    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        assert self._writes is not None
        trial, mirror = self._open_trial(trial_id)
        text = dumps(value)
        mirror.change(trial_id, system_attrs={**trial.system_attrs, key: loads(text)})
        self._writes.system_attributes[trial_id, key] = text

    # Trials, read.

    def get_trial(self, trial_id: int) -> FrozenTrial:
        with self._lock:
            if self._writes is not None:
                return apart(self._mirror(self._study_of(trial_id)).get(trial_id))
            for mirror in self._mirrors.values():
                if trial_id in mirror.numbers:
                    known = mirror.get(trial_id)
                    if known.state.is_finished() or trial_id in self._own:
                        return apart(known)
            return self.backend.get_trial(trial_id)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        with self._lock:
            trials = self._mirror(study_id).trials
            if not 0 <= trial_number < len(trials):
                raise KeyError(f"no trial of number {trial_number} in the study of id {study_id}")
            return trials[trial_number]._trial_id

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        with self._lock:
            found = self._mirror(study_id).select(states)
        return copy.deepcopy(found) if deepcopy else found

    def remove_session(self) -> None:
        self.backend.remove_session()


def _of(study_id: int, attributes: Mapping[tuple[int, str], str]) -> dict[str, Any]:
    """A study's attributes among those that are to be written."""
    return {key: loads(value) for (study, key), value in attributes.items() if study == study_id}
