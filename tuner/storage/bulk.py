"""Many writes at once into Optuna's own tables: the one file with SQL of ours against them.

It holds for the schema revisions in `connect.REVISIONS`; with others `by_orm.py` writes the same by Optuna's methods.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import starmap
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy.dialects import sqlite

from tuner.errors import StorageError

TRIALS = models.TrialModel.__table__
PARAMETERS = models.TrialParamModel.__table__
REPORTS = models.TrialIntermediateValueModel.__table__
VALUES = models.TrialValueModel.__table__
USER_ATTRIBUTES = models.TrialUserAttributeModel.__table__
SYSTEM_ATTRIBUTES = models.TrialSystemAttributeModel.__table__
STUDY_USER_ATTRIBUTES = models.StudyUserAttributeModel.__table__
STUDY_SYSTEM_ATTRIBUTES = models.StudySystemAttributeModel.__table__


# Statements made once: making one takes longer than executing it.
_NEWEST = sa.select(sa.func.max(TRIALS.c.trial_id))
_NEWER = (
    sa.select(TRIALS.c.trial_id)
    .where(TRIALS.c.study_id == sa.bindparam("of_study"), TRIALS.c.trial_id > sa.bindparam("than"))
    .order_by(TRIALS.c.trial_id)
)
_UNFINISHED = sa.select(TRIALS.c.trial_id).where(
    TRIALS.c.trial_id.in_(sa.bindparam("ids", expanding=True)),
    TRIALS.c.state.in_((TrialState.RUNNING, TrialState.WAITING)),
)
_ENDING = (
    sa.update(TRIALS)
    .where(TRIALS.c.trial_id == sa.bindparam("of_trial"))
    .values(state=sa.bindparam("new_state"), datetime_complete=sa.bindparam("time"))
)


class ConflictError(Exception):
    """Another process added or took a trial in between: the transaction has to be made again."""


@dataclass(frozen=True)
class NewTrial:
    """A trial's row; the rest of it stands in the other lists."""

    trial_id: int
    study_id: int
    number: int
    state: TrialState
    started: datetime | None


@dataclass
class Writes:
    """What a transaction writes, by kind; attributes as JSON. Where a thing is set twice, the last one holds."""

    newest_id: int = -1
    trials: list[NewTrial] = field(default_factory=list)
    claims: dict[int, datetime] = field(default_factory=dict)
    parameters: dict[tuple[int, str], tuple[float, BaseDistribution]] = field(default_factory=dict)
    reports: dict[tuple[int, int], float] = field(default_factory=dict)
    user_attributes: dict[tuple[int, str], str] = field(default_factory=dict)
    system_attributes: dict[tuple[int, str], str] = field(default_factory=dict)
    study_user_attributes: dict[tuple[int, str], str] = field(default_factory=dict)
    study_system_attributes: dict[tuple[int, str], str] = field(default_factory=dict)
    ends: dict[int, tuple[TrialState, Sequence[float] | None, datetime]] = field(default_factory=dict)
    deletions: list[sa.Executable] = field(default_factory=list)
    statements: list[tuple[sa.Executable, list[dict[str, Any]]]] = field(default_factory=list)

    def forget(self, trial_id: int, stale: Collection[str], parameters: bool) -> None:
        """Drop a trial's reports, its system attributes `stale` and maybe its parameters; what is set later stays."""
        self.reports = {key: value for key, value in self.reports.items() if key[0] != trial_id}
        self.system_attributes = {
            key: value for key, value in self.system_attributes.items() if key[0] != trial_id or key[1] not in stale
        }
        of_trial = SYSTEM_ATTRIBUTES.c.trial_id == trial_id
        self.deletions.append(sa.delete(REPORTS).where(REPORTS.c.trial_id == trial_id))
        self.deletions.append(sa.delete(SYSTEM_ATTRIBUTES).where(of_trial, SYSTEM_ATTRIBUTES.c.key.in_(stale)))
        if parameters:
            self.parameters = {key: value for key, value in self.parameters.items() if key[0] != trial_id}
            self.deletions.append(sa.delete(PARAMETERS).where(PARAMETERS.c.trial_id == trial_id))


def newest_id(connection: sa.Connection) -> int:
    """The largest trial id of the database; 0 where there is none."""
    return int(connection.execute(_NEWEST).scalar() or 0)


def newer_ids(connection: sa.Connection, study_id: int, than: int) -> list[int]:
    """Ids of a study's trials that are larger than `than`, in order."""
    return [int(row[0]) for row in connection.execute(_NEWER, {"of_study": study_id, "than": than})]


def write(connection: sa.Connection, writes: Writes) -> None:
    """Write everything; the caller commits.

    Raises `ConflictError` where another process was there first, `StorageError` where one ended or deleted a trial
    that is written to.
    """
    _refuse_ended(connection, writes)
    for deletion in writes.deletions:
        connection.execute(deletion)
    if writes.trials:
        _refuse_newer(connection, writes)
        connection.execute(sa.insert(TRIALS), [_row(trial) for trial in writes.trials])
    for trial_id, time in writes.claims.items():
        _claim(connection, trial_id, time)
    _upsert(connection, PARAMETERS, ("trial_id", "param_name"), starmap(_parameter, writes.parameters.items()))
    _upsert(connection, REPORTS, ("trial_id", "step"), starmap(_report, writes.reports.items()))
    for table, owner, attributes in (
        (USER_ATTRIBUTES, "trial_id", writes.user_attributes),
        (SYSTEM_ATTRIBUTES, "trial_id", writes.system_attributes),
        (STUDY_USER_ATTRIBUTES, "study_id", writes.study_user_attributes),
        (STUDY_SYSTEM_ATTRIBUTES, "study_id", writes.study_system_attributes),
    ):
        rows = [{owner: key[0], "key": key[1], "value_json": value} for key, value in attributes.items()]
        _upsert(connection, table, (owner, "key"), rows)
    _end(connection, writes)
    for statement, rows in writes.statements:
        connection.execute(statement, rows or None)


def _refuse_ended(connection: sa.Connection, writes: Writes) -> None:
    keyed = (writes.parameters, writes.reports, writes.user_attributes, writes.system_attributes)
    touched = {key[0] for part in keyed for key in part} | set(writes.ends)
    touched -= {trial.trial_id for trial in writes.trials} | set(writes.claims)
    if not touched:
        return
    lost = touched - {row[0] for row in connection.execute(_UNFINISHED, {"ids": sorted(touched)})}
    if lost:
        number = connection.execute(sa.select(TRIALS.c.number).where(TRIALS.c.trial_id == min(lost))).scalar()
        raise StorageError(
            "another program deleted the study while it was trained"
            if number is None
            else f"another program ended trial {number} while it was trained; run the same command again to go on"
        )


def _refuse_newer(connection: sa.Connection, writes: Writes) -> None:
    if newest_id(connection) != writes.newest_id:
        raise ConflictError("another process added a trial")


def _row(trial: NewTrial) -> dict[str, Any]:
    return {
        "trial_id": trial.trial_id,
        "study_id": trial.study_id,
        "number": trial.number,
        "state": trial.state,
        "datetime_start": _utc(trial.started),
    }


def _claim(connection: sa.Connection, trial_id: int, time: datetime) -> None:
    waiting = (TRIALS.c.trial_id == trial_id) & (TRIALS.c.state == TrialState.WAITING)
    values = {"state": TrialState.RUNNING, "datetime_start": _utc(time)}
    if connection.execute(sa.update(TRIALS).where(waiting).values(**values)).rowcount != 1:
        raise ConflictError("another process took a waiting trial")


def _end(connection: sa.Connection, writes: Writes) -> None:
    """The values and states of trials that ended."""
    rows = []
    for trial_id, (_, values, _) in writes.ends.items():
        for objective, value in enumerate(values or ()):
            stored, kind = models.TrialValueModel.value_to_stored_repr(value)
            rows.append({"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind})
    _upsert(connection, VALUES, ("trial_id", "objective"), rows)
    if writes.ends:
        ends = [
            {"of_trial": trial_id, "new_state": state, "time": _utc(time)}
            for trial_id, (state, _, time) in writes.ends.items()
        ]
        connection.execute(_ENDING, ends)


def _parameter(key: tuple[int, str], searched: tuple[float, BaseDistribution]) -> dict[str, Any]:
    trial_id, name = key
    value, distribution = searched
    text = distribution_to_json(distribution)
    return {"trial_id": trial_id, "param_name": name, "param_value": value, "distribution_json": text}


def _report(key: tuple[int, int], value: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"trial_id": key[0], "step": key[1], "intermediate_value": stored, "intermediate_value_type": kind}


def _upsert(connection: sa.Connection, table: sa.Table, key: tuple[str, ...], rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows; where one of the same `key` is there, it takes the new values."""
    rows = list(rows)
    if rows:
        connection.execute(_upserting(connection.dialect.name, table, key, tuple(rows[0])), rows)


@cache
def _upserting(dialect: str, table: sa.Table, key: tuple[str, ...], columns: tuple[str, ...]) -> sa.Executable:
    insert: Any = sqlite.insert(table)
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # which takes long to import

        insert = postgresql.insert(table)
    changed = {name: insert.excluded[name] for name in columns if name not in key}
    return insert.on_conflict_do_update(index_elements=list(key), set_=changed)  # type: ignore[no-any-return]


def _utc(time: datetime | None) -> datetime | None:
    """A local time as Optuna stores it: naive, in UTC."""
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None)
