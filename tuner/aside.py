"""Aside: importances in a process of its own, which starts while this one still reads.

Optuna's importance module takes longer to import than a large study to read. A second core does it meanwhile.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # starting one must cost nothing
    from tuner.ped_anova import Answer, Question

_CODE = "from tuner.aside import serve; serve()"


class Aside:
    """A process that answers one question; it is started at once, and ended with the block it is used in.

    Where it is not `wanted`, for a small study, the question is answered here.

    with Aside() as aside:
        ...
        answer = aside.ask(question)
        ...
        answer()
    """

    def __init__(self, wanted: bool = True) -> None:
        self._process = (
            None
            if not wanted
            else subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        )
        self._threads = ThreadPoolExecutor(1)

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            with self._process as process:
                process.kill()
                self._threads.shutdown()

    def ask(self, question: Question) -> Callable[[], Answer]:
        """Ask; what is returned waits for the answer, and works it out here where that process cannot."""
        from tuner.ped_anova import Answer, ped_anova

        if self._process is None:
            return partial(ped_anova, question)
        output = self._threads.submit(_exchange, self._process, pickle.dumps(question))

        def answer() -> Answer:
            try:
                found = pickle.loads(output.result())
            except (OSError, ValueError, EOFError, pickle.PickleError):
                found = None
            return found if isinstance(found, Answer) else ped_anova(question)

        return answer


def _exchange(process: subprocess.Popen[bytes], question: bytes) -> bytes:
    """What a process says to what it is told; in two calls, where `communicate` takes one for each 512 bytes."""
    assert process.stdin is not None and process.stdout is not None
    with process.stdin as stdin:
        stdin.write(question)
    return process.stdout.read()


def serve() -> None:
    """Answer the question that comes in."""
    import optuna.importance  # noqa: F401 - what takes so long

    from tuner.ped_anova import ped_anova

    question = pickle.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(pickle.dumps(ped_anova(question)))
