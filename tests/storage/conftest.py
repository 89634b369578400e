"""Databases for the tests of the storage."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from tuner.storage.connect import connect, url


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without a study, to be copied: making its tables takes most of the time."""
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    connect(path).engine.dispose()
    return path


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> Path:
    """A database of the test's own, without a study."""
    return Path(shutil.copy(empty_database, tmp_path / "study.db"))


@pytest.fixture
def open_database(database: Path) -> Iterator[Callable[..., optuna.storages.RDBStorage]]:
    """Opens the test's database (or a copy of it) as one more process would.

    It leaves out Optuna's look at the schema, which takes most of the time.
    """
    opened: list[optuna.storages.RDBStorage] = []

    def another(path: Path = database) -> optuna.storages.RDBStorage:
        options = {"skip_compatibility_check": True, "skip_table_creation": True}
        opened.append(optuna.storages.RDBStorage(url(path), **options))
        return opened[-1]

    yield another
    for storage in opened:
        storage.engine.dispose()
