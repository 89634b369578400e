"""What a forked child is asked to do. It imports nothing heavy: the tests' own process uses it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TASK = Path(__file__).parent / "files" / "task.py"
QUEUE = TASK.with_name("queue.yaml")


@dataclass(frozen=True)
class Job:
    """One run of a search in `folder`: `studies/`, `epochs.txt`, `outcome.json` and `said.txt` are written there.

    `kill_at` is the write, counted from 1, at which the child kills itself, 0 for never; with `system_calls` the call
    of the system, for which the server must have been started so. `harm` names a function
    of `harm.py` that is called before the search, with `harm_options`; `environment` is added to the child's.
    """

    folder: str
    target: str = str(TASK)
    mode: str = "tpe-median"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    enqueue: str | None = str(QUEUE)
    warm_start: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    kill_at: int = 0
    system_calls: bool = False
    harm: str = ""
    harm_options: Mapping[str, Any] = field(default_factory=dict)
