"""A process that has imported all once, and forks a child for each job: `python server.py`.

It reads lines of JSON from its input: a job, answered by the child's process id, or a process id, answered by that
child's exit code once it has ended (the signal's number, negative, if it was killed).
"""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
import tempfile

import alembic.util
import child
import torch
from job import Job


def serve() -> None:
    """Answer until the input ends."""
    torch.set_num_threads(1)
    _warm_up()
    for line in sys.stdin:
        asked = json.loads(line)
        answer = _fork(Job(**asked)) if isinstance(asked, dict) else _end_of(asked)
        print(answer, flush=True)


def _warm_up() -> None:
    """Run searches and go on with one, so that everything that is loaded late is there."""
    # Optuna has alembic read all revisions of its schema for every new database, a fifth of a child's time.
    alembic.util.load_python_file = functools.cache(alembic.util.load_python_file)
    with tempfile.TemporaryDirectory() as folder:
        for sampler, trials in (("qmc", 2), ("tpe", 2), ("tpe", 6)):
            job = Job(f"{folder}/{sampler}", mode=f"{sampler}-median", overrides={"trials": trials}, enqueue=None)
            child.run_search(job)
    gc.collect()
    gc.freeze()


def _fork(job: Job) -> int:
    process = os.fork()
    if not process:
        code = 70
        try:
            code = child.main(job)
        finally:
            os._exit(code)
    return process


def _end_of(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    serve()
