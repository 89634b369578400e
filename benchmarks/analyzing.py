"""Whether analysing a study slows the search that writes it: its rate with and without, in turn.

    python benchmarks/analyzing.py [--calls 200] [--windows 20] [--share]

The search (`tuner full digits`, one trial at a time, all fixed that an epoch's cost depends on) has one core and the
calls of `tuner analyze` another; with `--share` both may use all cores. Cores share caches and memory: windows of a
third kind analyse a copy of the database, so that what they cost as well is the machine's doing. Linux only.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from tuner.storage.reading import read_only

STUDY, COPY = "digits-full", "copy"
FIXED = (
    "optimizer=Adam", "batch_size=64", "model.channels=16", "model.timesteps=3", "model.recurrence=full",
    "model.tau=2.0", "model.dropout=0.0",
)  # fmt: skip


def tuner(*arguments: str, cores: set[int], folder: Path) -> subprocess.Popen[bytes]:
    """A command of tuner on some of the cores."""
    command = str(Path(sys.executable).with_name("tuner"))
    process = subprocess.Popen(
        [command, *arguments, "--studies", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    os.sched_setaffinity(process.pid, cores)
    return process


def epochs_done(folder: Path) -> int:
    """The epochs that the search has recorded."""
    with read_only(folder / f"{STUDY}.db").connect() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM tuner_epochs")).scalar_one())


def window(folder: Path, study: str | None, calls: int, seconds: float, cores: set[int]) -> tuple[float, float]:
    """Epochs a second over so many calls on a study, or without any for so many seconds; and how long it took."""
    started, before = time.perf_counter(), epochs_done(folder)
    for _ in range(calls if study else 0):
        process = tuner("analyze", study or "", cores=cores, folder=folder)
        _, problem = process.communicate()
        if process.returncode:
            raise SystemExit(f"tuner analyze failed: {problem.decode()}")
    if study is None:
        time.sleep(seconds)
    took = time.perf_counter() - started
    return (epochs_done(folder) - before) / took, took


def copy(folder: Path) -> None:
    """A copy of the study as it is now, beside it."""
    (folder / COPY).mkdir(exist_ok=True)
    source = sqlite3.connect(f"file:{folder / STUDY}.db?mode=ro", uri=True)
    with closing(source), closing(sqlite3.connect(folder / COPY / f"{STUDY}.db")) as target:
        source.backup(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=200, help="calls of analyze, over all windows")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--share", action="store_true", help="all cores for both")
    arguments = parser.parse_args()
    every = sorted(os.sched_getaffinity(0))
    own, other = ({every[0]}, {every[-1]}) if not arguments.share else ({*every}, {*every})
    calls = max(1, arguments.calls // arguments.windows)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fixed = [part for value in FIXED for part in ("--set", value)]
        endless = ("--trials", "100000", "--pruner", "none", "--parallel", "1", "--fuse", "off", "--quiet")
        search = tuner("full", "digits", *endless, *fixed, cores=own, folder=folder)
        try:
            while not (folder / f"{STUDY}.db").exists() or not _begun(folder):
                time.sleep(1)
            window(folder, None, 0, 20, other)
            rates: dict[str, list[float]] = {"with": [], "copy": [], "without": []}
            for _ in range(arguments.windows):
                rate, took = window(folder, STUDY, calls, 0, other)
                rates["with"].append(rate)
                rates["without"].append(window(folder, None, 0, took, other)[0])
                copy(folder)
                rates["copy"].append(window(folder, f"{folder / COPY / STUDY}.db", calls, 0, other)[0])
            shown = ", ".join(f"{name} {statistics.median(found):.1f}" for name, found in rates.items())
            print(f"epochs/s, median of {arguments.windows} windows: {shown}")
            for name in ("without", "copy"):
                ratios = [one / two for one, two in zip(rates["with"], rates[name], strict=True)]
                low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
                print(f"with / {name}: {middle:.1%} (quartiles {low:.1%} and {high:.1%})")
            print(f"{calls * arguments.windows} calls, none failed")
        finally:
            search.send_signal(signal.SIGINT)
            search.wait(60)


def _begun(folder: Path) -> bool:
    try:
        return epochs_done(folder) > 0
    except sa.exc.DBAPIError:  # its tables are being made
        return False


if __name__ == "__main__":
    main()
