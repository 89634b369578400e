"""Our storage against Optuna's own published test cases, call by call and with each call in a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase

from tuner.storage.batched import BatchedStorage
from tuner.storage.connect import connect


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
    def storage(self, tmp_path: Path) -> Iterator[BaseStorage]:
        yield BatchedStorage(connect(tmp_path / "study.db"))


class TestInTransactions(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[BaseStorage]:
        yield InTransactions(connect(tmp_path / "study.db"))
