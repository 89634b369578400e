"""Fixtures of all tests of proposals."""

from __future__ import annotations

import asking
import optuna
import pytest

from tuner.storage.connect import connect


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="session", autouse=True)
def _template(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("template") / "empty.db"
    connect(path).engine.dispose()
    asking.TEMPLATE.append(path)
