"""Searches in forked children that are killed and resumed, and what must be true of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from job import Job

KILLED = -signal.SIGKILL

TABLES = {
    "study": "SELECT study_name, key, value_json FROM studies JOIN study_user_attributes USING (study_id)",
    "study's notes": "SELECT key, value_json FROM study_system_attributes",
    "trials": "SELECT number, state, datetime_start IS NULL, datetime_complete IS NULL FROM trials",
    "parameters": (
        "SELECT number, param_name, param_value, distribution_json FROM trial_params JOIN trials USING (trial_id)"
    ),
    "values": "SELECT number, value, value_type FROM trial_values JOIN trials USING (trial_id)",
    "reports": (
        "SELECT number, step, intermediate_value, intermediate_value_type "
        "FROM trial_intermediate_values JOIN trials USING (trial_id)"
    ),
    "attributes": "SELECT number, key, value_json FROM trial_user_attributes JOIN trials USING (trial_id)",
    "notes": "SELECT number, key, value_json FROM trial_system_attributes JOIN trials USING (trial_id)",
    "epochs": "SELECT trial, epoch, train_loss, val_loss, learning_rate, gradient_norm, metrics FROM tuner_epochs",
}
"""All that a study knows of itself and its trials, by trial number, but for times."""

ROUND = 3
"""Epochs in a round of the search: one of each trial in flight."""

LEFT_OUT = ("seconds", "seconds_used", "traceback")
"""User attributes that need not be equal: how long it took, and whose frames a trial failed in."""


class Server:
    """The fork server: starts children and awaits their ends; `preload` is a library to load before all others."""

    def __init__(self, preload: Path | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("server.py")],
            env={**os.environ, "OMP_NUM_THREADS": "1", **({"LD_PRELOAD": str(preload)} if preload else {})},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, job: Job) -> int:
        """Fork a child for the job; gives its process id."""
        return self._ask(asdict(job))

    def end_of(self, process: int) -> int:
        """Await a child's end; gives its exit code, or the number of the signal that ended it, negative."""
        return self._ask(process)

    def run(self, job: Job) -> int:
        """Fork a child for the job and await its end; gives its exit code."""
        return self.end_of(self.start(job))

    def _ask(self, question: Any) -> int:
        assert self._process.stdin and self._process.stdout
        print(json.dumps(question), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the fork server has ended; what it said is above"
        return int(answer)

    def close(self) -> None:
        """End the server."""
        self._process.communicate()


def _content(path: Path) -> Any:
    """A file's content; of weights the header as a mapping, for its order is nowhere fixed."""
    content = path.read_bytes()
    if path.suffix != ".safetensors":
        return content
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


@contextmanager
def serving(preload: Path | None = None) -> Iterator[Server]:
    """A fork server for as long as the block runs."""
    server = Server(preload)
    try:
        yield server
    finally:
        server.close()


class Trained:
    """What a job has left in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.database = folder, folder / "studies" / "crash.db"

    @property
    def outcome(self) -> dict[str, Any]:
        """How the last child that was not killed ended: `error`, `message`, and the `points` it passed."""
        found: dict[str, Any] = json.loads((self.folder / "outcome.json").read_text())
        return found

    @property
    def said(self) -> str:
        """What the children printed, tracebacks included."""
        return (self.folder / "said.txt").read_text()

    def table(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of the study, by table; equal for equal studies, bit for bit."""
        with closing(sqlite3.connect(self.database)) as connection:
            found = {name: sorted(connection.execute(query), key=repr) for name, query in TABLES.items()}
        for name in ("study", "attributes"):
            found[name] = [row for row in found[name] if row[1] not in LEFT_OUT]
        return found

    def states(self) -> list[str]:
        """The states of all trials, by number."""
        return [row[1] for row in sorted(self.table()["trials"])]

    def files(self) -> dict[str, Any]:
        """Every file beside the database, by its name: weights, recipes, series."""
        kept = self.folder / "studies" / "crash"
        return {str(path.relative_to(kept)): _content(path) for path in sorted(kept.rglob("*")) if path.is_file()}

    def epochs(self) -> Counter[str]:
        """How often each epoch of each recipe was trained, over all runs."""
        log = self.folder / "epochs.txt"
        return Counter(log.read_text().splitlines() if log.exists() else ())

    def check_integrity(self) -> None:
        """SQLite's own check of the database, on a copy: a look at the original would tidy up after the crash."""
        if not self.database.exists():
            return
        copy = self.folder / "copy"
        copy.mkdir(exist_ok=True)
        for path in self.database.parent.glob("crash.db*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, copy)
        with closing(sqlite3.connect(copy / "crash.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        shutil.rmtree(copy)


def whole(server: Server, job: Job) -> Trained:
    """The search that is never interrupted."""
    trained = Trained(Path(job.folder))
    trained.folder.mkdir(parents=True)
    assert server.run(job) == 0, trained.said
    return trained


def killed(server: Server, job: Job, kill_at: int) -> Trained:
    """The search killed at a write, its database whole."""
    trained = Trained(Path(job.folder))
    trained.folder.mkdir(parents=True, exist_ok=True)
    assert server.run(replace(job, kill_at=kill_at)) == KILLED, trained.said
    trained.check_integrity()
    return trained


def resumed(server: Server, job: Job, reference: Trained, how: str, most_again: int | None = ROUND) -> None:
    """Resume the job's search: it must come to the reference's end, no more than `most_again` epochs trained twice."""
    trained = Trained(Path(job.folder))
    assert server.run(job) == 0, f"{how}: {trained.said}"
    check_equal(trained, reference, how, most_again)


def kill_and_resume(server: Server, job: Job, reference: Trained, kill_at: int) -> None:
    """Kill the job's search at a write, resume it, and compare all with the reference."""
    job = replace(job, folder=f"{job.folder}-{kill_at}")
    point = reference.outcome["points"][kill_at - 1]
    trained = killed(server, job, kill_at)
    resumed(server, job, reference, f"{job.mode} killed at write {kill_at}, {point}")
    shutil.rmtree(trained.folder)


def check_equal(trained: Trained, reference: Trained, how: str, most_again: int | None = ROUND) -> None:
    """All rows and all files are the reference's, and no more than `most_again` epochs were trained twice."""
    found, expected = trained.table(), reference.table()
    for name, rows in expected.items():
        lost, new = [row for row in rows if row not in found[name]], [row for row in found[name] if row not in rows]
        assert found[name] == rows, f"{how}: {name} differ: {lost} became {new}"
    files, wanted = trained.files(), reference.files()
    differ = sorted(name for name in files.keys() | wanted.keys() if files.get(name) != wanted.get(name))
    assert not differ, f"{how}: files that differ: {differ}"
    epochs = trained.epochs()
    assert epochs.keys() == reference.epochs().keys(), f"{how}: other epochs were trained"
    again = sum(epochs.values()) - len(epochs)
    assert most_again is None or again <= most_again, f"{how}: {again} epochs were trained again"
