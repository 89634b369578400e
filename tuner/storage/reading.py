"""A study's tables -> columns: all that analysis reads, without an object for each trial.

    database --read_study--> Records <--records_of-- optuna.Study

Reading holds no lock that a running search would wait for, and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    IntDistribution,
    json_to_distribution,
)

from tuner.errors import StorageError
from tuner.storage.connect import REVISIONS, open_to_read, url
from tuner.storage.records import (
    EPOCH_COLUMNS,
    HEAVY,
    Floats,
    Records,
    epoch_rows,
    records_of_trials,
    report_rows,
    wider,
)


def read_only(path: Path) -> sa.Engine:
    """An engine that reads a SQLite file; where its folder cannot be written, a file at rest is read as it is."""
    return sa.create_engine(url(path), creator=lambda: open_to_read(path), poolclass=sa.pool.NullPool)


def read_by_optuna(path: Path) -> optuna.storages.RDBStorage:
    """Optuna's storage of a SQLite file; what would write to it raises."""
    reading = {"creator": lambda: open_to_read(path), "poolclass": sa.pool.NullPool}
    return optuna.storages.RDBStorage(url(path), engine_kwargs=reading, skip_table_creation=True)


def study_names(engine: sa.Engine) -> list[str]:
    """The studies of a database, in the order they were made; empty where it holds no Optuna tables."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("studies"):
            return []
        return [name for (name,) in _rows(connection, "SELECT study_name FROM studies ORDER BY study_id")]


def read_study(engine: sa.Engine, name: str, files: Path | None = None) -> Records:
    """The study `name`, all of it as of one moment; `KeyError` for a name that is not there.

    A database of a revision that is not known here is read by Optuna; raises `StorageError` where that cannot.
    """
    with engine.connect() as connection:
        if not _is_known(connection):
            return _by_optuna(engine, name, files)
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
        return _Tables(engine, connection, name).records(files)


def _by_optuna(engine: sa.Engine, name: str, files: Path | None) -> Records:
    path = Path(str(engine.url.database))
    try:
        return records_of_trials(optuna.load_study(study_name=name, storage=read_by_optuna(path)), files)
    except (sa.exc.OperationalError, optuna.exceptions.StorageInternalError) as error:
        known = f"optuna storage upgrade --storage {url(path)}"
        raise StorageError(f"{path}: its tables are not those of Optuna {optuna.__version__}; try {known}") from error
    except RuntimeError as error:  # its tables are older, or newer, than this Optuna reads
        raise StorageError(f"{path}: {error}") from error


def _is_known(connection: sa.Connection) -> bool:
    if not sa.inspect(connection).has_table("alembic_version"):
        return False
    return {version for (version,) in _rows(connection, "SELECT version_num FROM alembic_version")} <= {*REVISIONS}


def _rows(connection: sa.Connection, query: str, **values: Any) -> list[tuple[Any, ...]]:
    """A query's rows as the driver gives them: SQLAlchemy's own rows take three times as long."""
    result = connection.execute(sa.text(query), values)
    assert result.cursor is not None
    return list(result.cursor.fetchall())


class _Tables:
    """One study's rows of Optuna's tables, and of ours."""

    def __init__(self, engine: sa.Engine, connection: sa.Connection, name: str) -> None:
        self.engine, self.connection, self.name = engine, connection, name
        studies = {known: study for study, known in _rows(connection, "SELECT study_id, study_name FROM studies")}
        self.study_id = studies[name]
        rows = self.rows(
            "SELECT trial_id, state, datetime_start, datetime_complete FROM trials WHERE study_id = :study "
            "ORDER BY trial_id"
        )
        self.ids = np.array([row[0] for row in rows], dtype=np.int64)
        self.states = [row[1] for row in rows]
        self.started, self.completed = (
            pd.to_datetime(pd.Index([row[i] for row in rows], dtype=object)) for i in (2, 3)
        )
        # Of a database with one study, whole tables are read: to look each row's trial up takes as long again.
        self.of_study = "" if len(studies) == 1 else "trial_id IN (SELECT trial_id FROM trials WHERE study_id = :study)"

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        wanted = {"study": self.study_id} if ":study" in query else {}
        return _rows(self.connection, query, **wanted, **values)

    def of_trials(self, columns: str, table: str, where: str = "") -> tuple[list[int], list[tuple[Any, ...]]]:
        """Rows of a table by trial: the trials' numbers, -1 for one of another study, and the rows."""
        conditions = " AND ".join(entry for entry in (self.of_study, where) if entry)
        rows = self.rows(f"SELECT trial_id, {columns} FROM {table}{f' WHERE {conditions}' if conditions else ''}")
        return self.numbers(np.array([row[0] for row in rows], dtype=np.int64)).tolist(), rows

    def numbers(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The trials' numbers by their ids, which ascend together; -1 for one of another study."""
        if not len(self.ids):
            return np.full(len(ids), -1)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[places] == ids, places, -1)

    def records(self, files: Path | None) -> Records:
        parameters, distributions = self.parameters()
        directions = self.rows("SELECT direction FROM study_directions WHERE study_id = :study ORDER BY objective")
        attributes = self.rows("SELECT key, value_json FROM study_user_attributes WHERE study_id = :study")
        return Records(
            name=self.name,
            directions=tuple(str(row[0]) for row in directions),
            attributes={key: json.loads(text) for key, text in attributes},
            states=self.states,
            values=self.values(),
            started=self.started,
            completed=self.completed,
            notes=self.notes(),
            parameters=parameters,
            distributions=distributions,
            reports=self.reports(),
            epochs=self.epochs(),
            files=files,
            heavy=self.heavy,
            metrics=self.metrics,
        )

    def values(self) -> Floats:
        found = np.full(len(self.ids), np.nan)
        for number, (_, value, kind) in zip(
            *self.of_trials("value, value_type", "trial_values", "objective = 0"), strict=True
        ):
            if number >= 0:
                found[number] = _number(value, kind)
        return found

    def notes(self) -> dict[str, list[Any]]:
        heavy = ", ".join(f"'{key}'" for key in HEAVY)
        rows = self.of_trials("key, value_json", "trial_user_attributes", f"key NOT IN ({heavy})")
        found: dict[str, list[Any]] = {}
        for number, (_, key, text) in zip(*rows, strict=True):
            if key not in found:
                found[key] = [None] * len(self.ids)
            if number >= 0:
                found[key][number] = text
        return {key: _parsed(texts) for key, texts in found.items()}

    def parameters(self) -> tuple[dict[str, list[Any]], dict[str, BaseDistribution]]:
        where = f" WHERE {self.of_study}" if self.of_study else ""
        kinds = self.rows(
            f"SELECT param_name, distribution_json, min(param_id) FROM trial_params{where} "
            "GROUP BY param_name, distribution_json ORDER BY min(param_id)"
        )
        distributions: dict[str, BaseDistribution] = {}
        for name, text, _ in kinds:
            found = json_to_distribution(text)
            distributions[name] = wider(distributions[name], found) if name in distributions else found
        columns: dict[str, list[Any]] = {name: [pd.NA] * len(self.ids) for name in distributions}
        for number, (_, name, stored) in zip(*self.of_trials("param_name, param_value", "trial_params"), strict=True):
            if number >= 0:
                columns[name][number] = stored
        return {name: _external(stored, distributions[name]) for name, stored in columns.items()}, distributions

    def reports(self) -> pd.DataFrame:
        kind = "intermediate_value_type"
        numbers, rows = self.of_trials(f"step, intermediate_value, {kind}", "trial_intermediate_values")
        values = [value if kind == "FINITE" else _number(value, kind) for _, _, value, kind in rows]
        return report_rows(numbers, [row[1] for row in rows], values)

    def epochs(self) -> pd.DataFrame:
        if not _has_epochs(self.connection):
            return epoch_rows([], np.empty((0, len(EPOCH_COLUMNS) - 1)))
        numbers, rows = self.of_trials(", ".join(EPOCH_COLUMNS[1:]), "tuner_epochs")
        return epoch_rows(numbers, np.array(rows, dtype=np.float64).reshape(len(rows), len(EPOCH_COLUMNS))[:, 1:])

    def heavy(self, key: str, numbers: Collection[int]) -> dict[int, Any]:
        query = "SELECT value_json FROM trial_user_attributes WHERE key = :key AND trial_id = :trial"
        with self.engine.connect() as connection:
            found = {n: _rows(connection, query, key=key, trial=int(self.ids[n])) for n in numbers}
        return {number: json.loads(rows[0][0]) for number, rows in found.items() if rows}

    def metrics(self, numbers: Collection[int]) -> dict[int, dict[int, dict[str, float | None]]]:
        query = "SELECT epoch, metrics FROM tuner_epochs WHERE trial_id = :trial ORDER BY epoch"
        with self.engine.connect() as connection:
            if not _has_epochs(connection):
                return {}
            found = {n: _rows(connection, query, trial=int(self.ids[n])) for n in numbers}
        return {n: {epoch: json.loads(text) for epoch, text in rows} for n, rows in found.items() if rows}


def _has_epochs(connection: sa.Connection) -> bool:
    """Whether there is a table of epoch rows, as tuner writes it now."""
    table = "tuner_epochs"
    inspector = sa.inspect(connection)
    return inspector.has_table(table) and {*EPOCH_COLUMNS, "metrics"} <= {
        column["name"] for column in inspector.get_columns(table)
    }


def _number(value: float | None, kind: str) -> float:
    """A number as Optuna stores it, infinities and NaN beside their kind."""
    special = {"INF_POS": np.inf, "INF_NEG": -np.inf, "NAN": np.nan}
    return special.get(kind, np.nan if value is None else value)


def _parsed(texts: Sequence[str | None]) -> list[Any]:
    """JSON texts, many of which are alike; parsed all at once."""
    return json.loads("[" + ",".join("null" if text is None else text for text in texts) + "]")  # type: ignore[no-any-return]


def _external(stored: list[Any], distribution: BaseDistribution) -> list[Any]:
    """Values as Optuna's `params` have them."""
    if isinstance(distribution, CategoricalDistribution):
        return [value if value is pd.NA else distribution.choices[int(value)] for value in stored]
    if isinstance(distribution, IntDistribution):
        return [value if value is pd.NA else int(value) for value in stored]
    return stored


def records_of(study: optuna.Study, files: Path | None = None) -> Records:
    """The same of an open study: from its database where it has one of ours to read, else from its trials."""
    engine = getattr(study._storage, "engine", None)
    if isinstance(engine, sa.Engine):
        with engine.connect() as connection:
            known = _is_known(connection)
        if known:
            return read_study(engine, study.study_name, files)
    return records_of_trials(study, files)
