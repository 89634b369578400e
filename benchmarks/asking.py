"""How many trials to ask for at once: the time until a search finds a value as good as a target, over several seeds.

    python benchmarks/asking.py [--tasks colors digits] [--seeds 10] [--out results.json]

One trial at a time, trained alone, is what any tool does with TPE; it stands beside groups of several sizes, trained
fused. More trials at once need more trials in all, as the sampler knows less when it is asked, but each costs less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from rich.console import Console
from rich.table import Table

from tuner.events import Event, TrialEnded
from tuner.rounds import asking, width
from tuner.search import SearchRequest, search


@dataclass(frozen=True)
class Question:
    """A search, ended by a value as good as `target` or after `trials`."""

    task: str
    target: float
    maximize: bool
    settings: dict[str, Any]
    trials: int = 64

    def reached(self, value: float | None) -> bool:
        return value is not None and (value >= self.target if self.maximize else value <= self.target)


QUESTIONS = {
    question.task: question
    for question in (
        Question("colors", 1.2e-3, False, {"epochs": 5}),
        Question("digits", 0.975, True, {"epochs": 3}),
    )
}
"""The quick searches of two tasks, cut shorter; the targets are reached by about one random trial in fifty."""

WAYS = {"one by one": (1, 1), "4 of 16": (16, 4), "8 of 16": (16, 8), "16 of 32": (32, 16)}
"""By name: how many trials are in flight at most, and how many in a row have one shape."""


class ReachedError(BaseException):
    """The target is reached: nothing is to go on."""


def answer(question: Question, way: str, seed: int) -> dict[str, float | bool]:
    """Seconds and trials until the target, and whether it was reached."""
    parallel, asking.GROUP_SIZE = WAYS[way]
    width.WIDTHS["tpe"] = parallel
    ended: list[float | None] = []

    def see(event: Event) -> None:
        if isinstance(event, TrialEnded):
            ended.append(event.value)
            if question.reached(event.value):
                raise ReachedError

    fuse = "off" if way == "one by one" else "auto"
    overrides: dict[str, Any] = {"trials": question.trials, "study_seed": seed, "fuse": fuse}
    with tempfile.TemporaryDirectory() as folder:
        request = SearchRequest(question.task, "quick", Path(folder), settings=question.settings, overrides=overrides)
        started = time.perf_counter()
        try:
            search(request, see)
        except ReachedError:
            return {"seconds": time.perf_counter() - started, "trials": len(ended), "reached": True}
    return {"seconds": time.perf_counter() - started, "trials": len(ended), "reached": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", nargs="+", choices=list(QUESTIONS), default=list(QUESTIONS))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="write everything measured to this file, as JSON")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found: dict[str, dict[str, list[dict[str, float | bool]]]] = {}
    progress = Console(stderr=True)
    for name in arguments.tasks:
        rows = found[name] = {way: [] for way in arguments.ways}
        for seed in range(arguments.seeds):  # in turn, so that a busy machine slows all
            for way in arguments.ways:
                rows[way].append(answer(QUESTIONS[name], way, seed))
                progress.print(f"{name}, seed {seed}, {way}: {rows[way][-1]}")
    show(found)
    if arguments.out:
        arguments.out.write_text(json.dumps({"torch": torch.__version__, "found": found}, indent=1) + "\n")


def show(found: dict[str, dict[str, list[dict[str, float | bool]]]]) -> None:
    """Print the medians over the seeds."""
    table = Table(title="Until the target, medians over the seeds", title_justify="left", title_style="")
    for number, column in enumerate(["task", "way", "seconds", "trials", "reached"]):
        table.add_column(column, justify="left" if number < 2 else "right")
    for name, rows in found.items():
        for way, entries in rows.items():
            seconds, trials = (
                statistics.median(float(entry[key]) for entry in entries) for key in ("seconds", "trials")
            )
            reached = sum(bool(entry["reached"]) for entry in entries)
            table.add_row(name, way, f"{seconds:.1f}", f"{trials:g}", f"{reached} of {len(entries)}")
    Console().print(table)


if __name__ == "__main__":
    main()
