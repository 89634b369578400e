"""Ways to train in turn, again and again, so that a busy machine slows all; and the tables of what came of it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from loops import Fused, IndexingLoop, LoaderLoop, Spent, Way, now
from models import Job
from rich.console import Console
from rich.table import Table

from tuner.training.precision import matrices_in

LOADER, INDEXING, FUSED = "(a) DataLoader", "(b) indexing", "(c) fused"

GEMM_SIDE = {"cpu": 1024, "cuda": 8192}
"""The side of the square matrices whose product says what the machine can do."""


@dataclass
class Result:
    """What was measured of one model.

    `spent` holds every way's seconds per trial and epoch, round by round; `threads` its intra-op threads; `gemm` is in
    floating-point operations a second, `examining` (once a search) and `starting` (a trial) in seconds, `storing`,
    what a search adds to each epoch of a trial, too (None: not measured). `more` are further ways' trial-epochs per
    second, training alone.
    """

    model: str
    trials: int
    aim: float
    flops: float
    gemm: float
    examining: float
    starting: float
    threads: dict[str, int]
    spent: dict[str, list[Spent]]
    more: dict[str, float] = field(default_factory=dict)
    storing: float | None = None

    def seconds(self, way: str, part: str = "training") -> float:
        """The median over the rounds, of one trial's epoch."""
        return float(statistics.median(getattr(entry, part) for entry in self.spent[way]))

    def ratio(self, way: str) -> float:
        """How many times longer a way trains than fused: the median of the rounds' ratios."""
        pairs = zip(self.spent[way], self.spent[FUSED], strict=True)
        return statistics.median(other.training / fused.training for other, fused in pairs)


def measured(job: Job, trials: int, rounds: int, least: float, threads: int) -> Result:
    """All three ways in turn, `rounds` times: an epoch of all fused trials, and of others for `least` seconds.

    A trial alone takes the same time whoever trains before it, so that a few epochs of one stand for all trials; it
    has one intra-op thread or all of them, whichever is faster for it.
    """
    recipe = job.recipes(1)[0]
    fused = Fused(job, trials, threads)
    alone = {name: best_of_threads(kind(job, recipe, threads), threads) for name, kind in ALONE.items()}
    ways: dict[str, Way] = {**alone, FUSED: fused}
    spent: dict[str, list[Spent]] = {name: [] for name in ways}
    products = []
    for _ in range(rounds):
        products.append(gemm(job.device, threads, recipe.precision))
        for name, way in ways.items():
            spent[name].append(mean_epoch(way, 0.0 if way is fused else least))
    return Result(
        job.case.name,
        trials,
        job.case.aim[job.device.type],
        job.flops_per_epoch,
        max(products),
        fused.examining,
        fused.starting,
        {name: way.threads for name, way in ways.items()},  # type: ignore[attr-defined]
        spent,
    )


ALONE = {LOADER: LoaderLoop, INDEXING: IndexingLoop}


def best_of_threads(loop: IndexingLoop, threads: int) -> IndexingLoop:
    """The loop with one thread or all of them, whichever has the faster epoch of two."""
    if loop.device.type != "cpu" or threads == 1:
        return loop
    loop.epoch()
    fastest = {}
    for count in (1, threads):
        loop.threads = count
        fastest[count] = min(loop.epoch().training for _ in range(2))
    loop.threads = min(fastest, key=lambda count: fastest[count])
    return loop


def mean_epoch(way: Way, least: float) -> Spent:
    """The mean of as many epochs as take `least` seconds, one or more."""
    started, found = time.perf_counter(), [way.epoch()]
    while time.perf_counter() - started < least:
        found.append(way.epoch())
    return Spent(*(statistics.fmean(column) for column in zip(*found, strict=True)))


def gemm(device: torch.device, threads: int, precision: str) -> float:
    """Floating-point operations a second of a square matrix product, the best of three."""
    torch.set_num_threads(threads)
    side, dtype = GEMM_SIDE[device.type], torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.rand(side, side, device=device, dtype=dtype)
    times = []
    with matrices_in(precision, device):
        for _ in range(3):
            started = now(device)
            matrix @ matrix
            times.append(now(device) - started)
    return 2 * side**3 / min(times)


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """What the numbers were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"device": name, "threads": threads, "torch": torch.__version__, "date": date}


def show(results: list[Result], on: Mapping[str, Any]) -> None:
    """Print the tables: rates and ratios, where the time goes, and what is made of the machine."""
    console = Console(width=118)
    console.print(
        f"{on['device']}, {on['threads']} threads, torch {on['torch']}, {on['date']}. Medians of epochs in turn."
    )
    for table in (_rates(results), _parts(results), _operations(results)):
        console.print(table)


def _rates(results: list[Result]) -> Table:
    more = list(dict.fromkeys(name for result in results for name in result.more))
    ways = [LOADER, INDEXING, *more, FUSED]
    columns = ["model", "trials", *ways, "over (a)", "over (b)", *[f"over {name}" for name in more], "aim"]
    table = _table(
        "Trial-epochs per second, training alone; (a) and (b) train one trial after another",
        columns,
    )
    for result in results:
        rates = {way: 1 / result.seconds(way) for way in result.spent} | result.more
        written = [_short(rates[way]) + _threads(result, way) if way in rates else "" for way in ways]
        further = [f"{rates[FUSED] / rates[name]:.1f}" if name in rates else "" for name in more]
        ratios = [f"[bold]{result.ratio(LOADER):.1f}[/]", f"{result.ratio(INDEXING):.1f}", *further]
        table.add_row(result.model, str(result.trials), *written, *ratios, f"{result.aim:g}")
    return table


def _threads(result: Result, way: str) -> str:
    count = result.threads.get(way, 0)
    return f" ({count} thr.)" if count and way != FUSED else ""


def _parts(results: list[Result]) -> Table:
    columns = ["model", "way", "batches", "steps", "validation", "storage", "to start a trial"]
    table = _table("Where it goes: milliseconds of one trial's epoch", columns)
    for result in results:
        for way in result.spent:
            parts = [_short(1000 * result.seconds(way, part)) for part in ("batches", "steps", "validation")]
            table.add_row(
                result.model, way, *parts, *(_beside(result) if way == FUSED else []), end_section=way == FUSED
            )
    return table


def _beside(result: Result) -> list[str]:
    """What fused training takes beside its epochs, in milliseconds; the first trial is tried out, too."""
    storing = "" if result.storing is None else _short(1000 * result.storing)
    return [storing, f"{1000 * result.starting:.1f} (the first {1000 * result.examining:.0f})"]


def _operations(results: list[Result]) -> Table:
    columns = ["model", "MFLOP an epoch", LOADER, INDEXING, FUSED, "GEMM", "(c) / GEMM"]
    table = _table("GFLOP/s in training, counting matrix products and convolutions", columns)
    for result in results:
        rates = {way: result.flops / result.seconds(way) / 1e9 for way in result.spent}
        share = f"{100 * rates[FUSED] * 1e9 / result.gemm:.0f} %"
        written = [_short(rates[way]) for way in (LOADER, INDEXING, FUSED)]
        table.add_row(result.model, _short(result.flops / 1e6), *written, _short(result.gemm / 1e9), share)
    return table


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 or column == "way" else "right")
    return table


def _short(number: float) -> str:
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"


def write(path: Path, results: list[Result], on: Mapping[str, Any]) -> None:
    """Everything measured as JSON: seconds, and rates per second."""
    ways = {
        result.model: asdict(result)
        | {"spent": {way: [entry._asdict() for entry in found] for way, found in result.spent.items()}}
        | {"ratios": {way: result.ratio(way) for way in ALONE}}
        for result in results
    }
    path.write_text(json.dumps({**on, "models": ways}, indent=1) + "\n")
