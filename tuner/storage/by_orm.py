"""The writes of a transaction through Optuna's own methods, for a schema that `bulk.py` does not know."""

from __future__ import annotations

from json import loads

import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy.orm import scoped_session, sessionmaker

from tuner.storage.bulk import ConflictError, Writes


def write(storage: RDBStorage, connection: sa.Connection, writes: Writes) -> None:
    """As `bulk.write`, with the storage's sessions joined to the connection's transaction; the caller commits."""
    joined = scoped_session(sessionmaker(bind=connection, join_transaction_mode="create_savepoint"))
    own, storage.scoped_session = storage.scoped_session, joined
    try:
        for deletion in writes.deletions:
            connection.execute(deletion)
        _write(storage, writes)
        for statement, rows in writes.statements:
            connection.execute(statement, rows or None)
    finally:
        storage.scoped_session = own
        joined.remove()


def _write(storage: RDBStorage, writes: Writes) -> None:
    for trial in writes.trials:
        waiting = create_trial(state=TrialState.WAITING) if trial.state == TrialState.WAITING else None
        if storage.create_new_trial(trial.study_id, waiting) != trial.trial_id:
            raise ConflictError("another process added a trial")
    for trial_id in writes.claims:
        if not storage.set_trial_state_values(trial_id, TrialState.RUNNING):
            raise ConflictError("another process took a waiting trial")
    for (trial_id, name), (value, distribution) in writes.parameters.items():
        storage.set_trial_param(trial_id, name, value, distribution)
    for (trial_id, step), value in writes.reports.items():
        storage.set_trial_intermediate_value(trial_id, step, value)
    for (trial_id, key), attribute in writes.user_attributes.items():
        storage.set_trial_user_attr(trial_id, key, loads(attribute))
    for (trial_id, key), attribute in writes.system_attributes.items():
        storage.set_trial_system_attr(trial_id, key, loads(attribute))
    for (study_id, key), attribute in writes.study_user_attributes.items():
        storage.set_study_user_attr(study_id, key, loads(attribute))
    for (study_id, key), attribute in writes.study_system_attributes.items():
        storage.set_study_system_attr(study_id, key, loads(attribute))
    for trial_id, (state, values, _) in writes.ends.items():
        storage.set_trial_state_values(trial_id, state, values)
