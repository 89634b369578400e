"""The forked child: one search, from its start to its end or to wherever it is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import harm
import system_calls
from job import Job
from points import Points, watch

from tuner.events import ignore
from tuner.search import SearchRequest, quiet_optuna, search
from tuner.training.fused.training import FusedTraining
from tuner.training.plain import PlainRun
from tuner.training.run import EpochRecord
from tuner.training.standing import Standing

SECONDS = 120
"""A child that hangs is ended by the system after so long, and its test fails."""


def carry_out(job: Job) -> None:
    """Run the search in this process and write down how it went; `TunerError`s and interrupts are caught for it."""
    folder = Path(job.folder)
    signal.alarm(SECONDS)
    os.environ.update(job.environment)
    _count_epochs(folder / "epochs.txt")
    points = Points(0 if job.system_calls else job.kill_at)
    if job.system_calls:
        system_calls.arm(folder / "studies", job.kill_at)
    else:
        watch(points)
    if job.harm:
        getattr(harm, job.harm)(**job.harm_options)
    outcome: dict[str, Any] = {"error": "", "message": ""}
    try:
        run_search(job)
    except BaseException as error:
        outcome |= {"error": type(error).__name__, "message": str(error)}
        raise
    finally:
        points.kill_at = 0
        outcome["points"] = ["system call"] * system_calls.passed() if job.system_calls else points.passed
        _note(folder / "outcome.json", json.dumps(outcome))


def run_search(job: Job) -> None:
    """Run or resume the job's search in this process."""
    request = SearchRequest(
        job.target,
        job.mode,
        studies=Path(job.folder, "studies"),
        study="crash",
        device="cpu",
        overrides=job.overrides,
        enqueue=None if job.enqueue is None else Path(job.enqueue),
        warm_start=job.warm_start,
    )
    quiet_optuna()
    search(request, ignore)


def _count_epochs(log: Path) -> None:
    """Have every epoch that is trained add a line to `log`: a number for its recipe, and the epoch."""
    plain, fused = PlainRun.epoch, FusedTraining.epoch

    def count(run: Standing, records: list[EpochRecord]) -> None:
        for record in records:
            _note(log, f"{run.recipe.model_dump_json()} {record.epoch}\n", os.O_APPEND)

    def counted(run: PlainRun) -> Any:
        records = plain(run)
        count(run, records)
        return records

    def counted_together(training: FusedTraining, members: Any, check_stop: Any) -> Any:
        ended = fused(training, members, check_stop)
        for member, records in zip(members, ended, strict=True):
            count(member, records)
        return ended

    PlainRun.epoch = counted  # type: ignore[method-assign]
    FusedTraining.epoch = counted_together  # type: ignore[method-assign]


def _note(path: Path, text: str, how: int = os.O_TRUNC) -> None:
    """Write to a file past all that is watched."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o666)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def main(job: Job) -> int:
    """Carry a job out with its output in a file; gives the exit code."""
    said = os.open(Path(job.folder, "said.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(said, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        carry_out(job)
    except BaseException as error:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        return int(getattr(error, "exit_code", 70))
    return 0
