"""One owner of a study: a lease, lost with the process or, seen from another machine, after a minute's silence (C8).

On one machine the lock on a file beside the database decides: the system drops it with the process, so no clock, no
reused pid and no copied database can mislead. Between machines that do not share such locks, a row in the database
does: its owner renews it, and whoever finds it silent for `LEASE_SECONDS` may take it. An owner that only stood still,
as a laptop asleep, finds at its next write that the lease is another's, and writes nothing.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from tuner.errors import StorageError
from tuner.storage.file_lock import FileLock
from tuner.storage.heartbeat import Heartbeat
from tuner.storage.owner import Owner

LEASE_SECONDS = 60
"""How long an owner on another machine may be silent before the study can be taken over."""

leases = sa.Table(
    "tuner_leases",
    sa.MetaData(),
    sa.Column("study", sa.String(512), primary_key=True),
    sa.Column("token", sa.String(32), nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("boot", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started", sa.Text, nullable=False),
    sa.Column("heartbeat", sa.Double, nullable=False),
    sa.Column("beats", sa.Integer, nullable=False),
)
"""`token` is one `Lease`'s own; `heartbeat` is the Unix time, in seconds, of the last of `beats` renewals."""

_BEAT = (
    sa.update(leases)
    .where(leases.c.token == sa.bindparam("ours"))
    .values(heartbeat=sa.bindparam("now"), beats=leases.c.beats + 1)
)


@dataclass(frozen=True)
class Clock:
    """The time of day, in Unix seconds, and waiting for some seconds; tests put their own here."""

    wall: Callable[[], float] = time.time
    pause: Callable[[float], None] = time.sleep


class Lease:
    """The right to train `study`, which one process has at a time.

    Entering takes the lock on `lock_file`, before there need be a database; `claim` puts the lease into the database
    and keeps it alive; `renew` belongs into each transaction that writes; leaving gives all of it back. Each of them
    raises `StorageError` where another process has the study.
    """

    def __init__(self, lock_file: Path, study: str, owner: Owner | None = None, clock: Clock | None = None) -> None:
        self.study, self.owner = study, owner or Owner.here()
        self._file, self._clock = FileLock(lock_file), clock or Clock()
        self._token = uuid.uuid4().hex
        self._engine: sa.Engine | None = None
        self._heartbeat: Heartbeat | None = None
        self._lost = ""

    def __enter__(self) -> Lease:
        self._file.acquire(self.owner, self.study)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def claim(self, engine: sa.Engine, say: Callable[[str], None] = lambda sentence: None) -> None:
        """Write the lease into the database of `engine`, and renew it from now on every `LEASE_SECONDS / 4`.

        `say` gets a sentence for the user where the last owner was on another machine: that it is watched for
        `LEASE_SECONDS` because its clock proves nothing, and that the study was taken over.
        """
        assert self._file.held and self._engine is None
        self._engine = _impatient(engine)
        with engine.begin() as connection:
            connection.execute(sa.schema.CreateTable(leases, if_not_exists=True))
        last = self._read(engine)
        elsewhere = last is not None and not self._file_decides(last, engine)
        if last is not None and elsewhere:
            self._refuse_living(last, engine, say)
        if not self._take(engine, last):
            raise StorageError(f"{self.study}: another process took this study at the same moment; try again")
        if last is not None and elsewhere:
            say(f"taken over from {_owner(last)}, which was last seen {self._ago(last)}")
        self._heartbeat = Heartbeat(self._beat_alone, LEASE_SECONDS / 4)

    def renew(self, connection: sa.Connection) -> None:
        """Renew the lease within the transaction of `connection`, so that nothing is written without it."""
        assert self._heartbeat is not None
        if not self._beat(connection):
            raise StorageError(self._loss(connection))

    def check(self) -> None:
        """Raise `StorageError` if a heartbeat between transactions found the lease lost."""
        if self._lost:
            raise StorageError(self._lost)

    def release(self) -> None:
        """Delete the lease if it is still ours, and give the lock back; nothing in a child that was forked."""
        if not self._file.held:
            return
        if self._heartbeat is not None:
            self._heartbeat.stop()
        if self._engine is not None:
            with suppress(sa.exc.SQLAlchemyError), self._engine.begin() as connection:
                connection.execute(sa.delete(leases).where(leases.c.token == self._token))
        self._file.release()

    def _file_decides(self, row: _Row, engine: sa.Engine) -> bool:
        """Whether the lock file, which we hold, proves that the owner is gone.

        It lies beside a SQLite database, so all processes of the machine meet at it; a database server's clients may
        each have a file of their own.
        """
        return engine.dialect.name == "sqlite" and self.owner.is_on_machine_of(_owner(row))

    def _refuse_living(self, row: _Row, engine: sa.Engine, say: Callable[[str], None]) -> None:
        """`StorageError` while the owner, on another machine, may be alive."""
        left = row.heartbeat + LEASE_SECONDS - self._clock.wall()
        if left <= 0:
            return
        if left <= 2 * LEASE_SECONDS:
            raise StorageError(
                f"{self.study}: another process ({_owner(row)}; last seen {self._ago(row)}) trains this study; "
                f"if it has ended, the study can be taken over in {math.ceil(left)} seconds, or give another --study"
            )
        say(f"{_owner(row)} was last seen in the future, so a clock is wrong; watching it for {LEASE_SECONDS} seconds")
        for _ in range(LEASE_SECONDS):
            self._clock.pause(1)
            now = self._read(engine)
            if now is not None and (now.token, now.beats) != (row.token, row.beats):
                raise StorageError(
                    f"{self.study}: another process ({_owner(now)}) trains this study; "
                    "wait for it, or give another --study"
                )

    def _take(self, engine: sa.Engine, last: _Row | None) -> bool:
        """Put our lease in place of `last`; False if another process did so since it was read."""
        ours = asdict(self.owner) | {"token": self._token, "heartbeat": self._clock.wall(), "beats": 0}
        try:
            with engine.begin() as connection:
                if last is not None:
                    unchanged = (leases.c.token == last.token) & (leases.c.beats == last.beats)
                    connection.execute(sa.delete(leases).where(unchanged))
                connection.execute(sa.insert(leases).values(study=self.study, **ours))
        except sa.exc.IntegrityError:
            return False
        return True

    def _read(self, engine: sa.Engine) -> _Row | None:
        with engine.connect() as connection:
            return connection.execute(sa.select(leases).where(leases.c.study == self.study)).first()

    def _beat(self, connection: sa.Connection) -> bool:
        """Renew our row; False if it is no longer there."""
        return connection.execute(_BEAT, {"ours": self._token, "now": self._clock.wall()}).rowcount == 1

    def _beat_alone(self) -> bool:
        """A beat between transactions; a busy or failing database is left to the next one."""
        assert self._engine is not None
        with suppress(sa.exc.SQLAlchemyError), self._engine.begin() as connection:
            if not self._beat(connection):
                self._lost = self._loss(connection)
        return not self._lost

    def _loss(self, connection: sa.Connection) -> str:
        row = connection.execute(sa.select(leases).where(leases.c.study == self.study)).first()
        taker = f"another process ({_owner(row)})" if row else "another process"
        return f"{self.study}: {taker} took this study over while this one stood still; this one wrote nothing more"

    def _ago(self, row: _Row) -> str:
        seconds = max(0, round(self._clock.wall() - row.heartbeat))
        return f"{seconds} seconds ago" if seconds < 120 else f"{timedelta(seconds=seconds)} ago"


_Row = sa.Row[Any]


def _owner(row: _Row) -> Owner:
    return Owner(row.host, row.boot, row.pid, row.started)


def _impatient(engine: sa.Engine) -> sa.Engine:
    """An engine on the same database that waits no longer than a second for a lock, and keeps no connection open."""
    arguments = {"timeout": 1} if engine.dialect.name == "sqlite" else {}
    return sa.create_engine(engine.url, poolclass=sa.NullPool, connect_args=arguments)
