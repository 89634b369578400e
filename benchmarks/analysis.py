"""What `tuner analyze` takes on a large study: the terminal report and the page, beside Optuna's own reading of it.

    python benchmarks/analysis.py [--trials 10000] [--epochs 20] [--repeats 3] [--keep FOLDER]

The study has 8 parameters, a fifth of its trials pruned and a few diverged, and an epoch row an epoch. Each command is
a process of its own, start and imports included; the peak memory is that of the process.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from tuner.storage.batched import BatchedStorage
from tuner.storage.connect import connect
from tuner.storage.epochs import EpochRow, EpochRows

NAME = "large"
AT_ONCE = 500
SPACE = {
    "learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
    "optimizer": CategoricalDistribution(("Adam", "AdamW", "SGD", "RMSprop")),
    "batch_size": CategoricalDistribution((16, 32, 64, 128)),
    "gradient_clip": FloatDistribution(0.1, 10.0, log=True),
    "model.channels": IntDistribution(8, 64, step=8),
    "model.layers": IntDistribution(1, 6),
    "model.dropout": FloatDistribution(0.0, 0.5),
    "optimizer_kwargs.weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
}


def loss_of(params: dict[str, Any], random: np.random.Generator) -> float:
    """What a run with these parameters comes to."""
    rate = math.log10(params["learning_rate"])
    penalty = (
        0.1 * (rate + 2.5) ** 2 + 0.05 * (params["optimizer"] == "SGD") + 0.2 * (params["model.dropout"] - 0.2) ** 2
    )
    return 0.1 + penalty + 0.1 / params["model.channels"] + float(random.normal(0, 0.02))


def draw(random: np.random.Generator) -> dict[str, Any]:
    """A random setting."""
    found: dict[str, Any] = {}
    for name, entry in SPACE.items():
        if isinstance(entry, CategoricalDistribution):
            found[name] = entry.choices[int(random.integers(len(entry.choices)))]
        elif isinstance(entry, IntDistribution):
            found[name] = int(random.integers((entry.high - entry.low) // entry.step + 1)) * entry.step + entry.low
        elif entry.log:
            found[name] = float(math.exp(random.uniform(math.log(entry.low), math.log(entry.high))))
        else:
            found[name] = float(random.uniform(entry.low, entry.high))
    return found


def trial_of(number: int, epochs: int, random: np.random.Generator) -> tuple[FrozenTrial, list[tuple[float, float]]]:
    """A finished trial, and its training and validation loss by epoch."""
    params = draw(random)
    loss = loss_of(params, random)
    diverged = params["learning_rate"] > 5e-2 and random.random() < 0.7
    done = int(random.integers(1, 4)) if diverged else epochs
    if not diverged and loss > 0.6 and random.random() < 0.5:
        done = int(random.integers(3, epochs))
    gap = 0.02 + 0.05 * (0.5 - params["model.dropout"])
    curve = [(value - gap, value) for value in (loss + math.exp(-4 * (epoch + 1) / epochs) for epoch in range(done))]
    ended = TrialState.COMPLETE if done == epochs else TrialState.PRUNED
    start = datetime(2026, 1, 1) + timedelta(seconds=10 * number)
    about: dict[str, Any] = {
        "values": params,
        "recipe": {**params, "epochs": epochs, "seed": 0, "scheduler": "CosineAnnealingLR", "early_stopping": None},
        "trained": "fused",
        "reason": "all epochs trained" if ended == TrialState.COMPLETE else "pruned by median",
        "seconds": 0.4 * done,
        "final_train_loss": curve[-1][0],
        "final_val_loss": curve[-1][1],
        "best_train_loss": min(pair[0] for pair in curve),
        "best_val_loss": min(pair[1] for pair in curve),
        "gap": gap,
        "best_epoch": done,
        "epochs_done": done,
        "epochs_asked": epochs,
    }
    if diverged:
        about |= {"diverged": True, "reason": f"diverged at epoch {done}"}
    trial = optuna.trial.create_trial(
        state=ended,
        value=curve[-1][1] if ended == TrialState.COMPLETE else None,
        params=params,
        distributions=SPACE,
        user_attrs=about,
        intermediate_values={epoch + 1: pair[1] for epoch, pair in enumerate(curve)},
    )
    trial.datetime_start, trial.datetime_complete = start, start + timedelta(seconds=0.4 * done)
    return trial, curve


def make(path: Path, trials: int, epochs: int) -> None:
    """Write the study."""
    storage = BatchedStorage(connect(path))
    rows = EpochRows(storage)
    study = optuna.create_study(study_name=NAME, storage=storage)
    search: dict[str, Any] = {}
    for name, entry in SPACE.items():
        kept = {key: value for key, value in entry._asdict().items() if value is not None}
        search[name] = {"choices": list(kept["choices"])} if "choices" in kept else kept
    study.set_user_attr(
        "space", {"task": "digits", "mode": "full", "metric": "val_loss", "value": "best", "search": search}
    )
    random = np.random.default_rng(0)
    for first in range(0, trials, AT_ONCE):
        with storage.transaction():
            written = []
            for number in range(first, min(first + AT_ONCE, trials)):
                trial, curve = trial_of(number, epochs, random)
                trial_id = storage.create_new_trial(study._study_id, trial)
                for epoch, (train, val) in enumerate(curve, 1):
                    rate = trial.params["learning_rate"] * (1 + math.cos(math.pi * epoch / epochs)) / 2
                    metrics = {"train_loss": train, "val_loss": val}
                    written.append(EpochRow(trial_id, number, epoch, rate, 1.0, 0.4, metrics))
            rows.write(written)
    storage.engine.dispose()


def measured(command: Sequence[str], output: Path) -> tuple[float, float]:
    """Seconds and peak MiB of a command, its output written to a file."""
    started = time.perf_counter()
    with output.open("wb") as file:
        process = os.posix_spawn(
            command[0],
            command,
            {**os.environ, "COLUMNS": "120"},
            file_actions=[(os.POSIX_SPAWN_DUP2, file.fileno(), 1)],
        )
        _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3, help="each command in turn, so many times")
    parser.add_argument("--keep", type=Path, help="a folder for the study, used again where it is there")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        database = folder / f"{NAME}.db"
        if not database.exists():
            make(database, arguments.trials, arguments.epochs)
        size = database.stat().st_size / 2**20
        print(f"{arguments.trials} trials, {len(SPACE)} parameters, {arguments.epochs} epochs: {size:.0f} MiB")
        loading = f"import optuna; optuna.load_study(study_name='{NAME}', storage='sqlite:///{database}').trials"
        tuner = [str(Path(sys.executable).with_name("tuner")), "analyze", NAME, "--studies", str(folder)]
        commands = {
            "optuna.load_study(...).trials": [sys.executable, "-c", loading],
            "tuner analyze": tuner,
            "tuner analyze --html": [*tuner, "--html", str(folder / "report.html")],
        }
        runs = {name: [] for name in commands}
        for _ in range(arguments.repeats):
            for name, command in commands.items():
                runs[name].append(measured(command, folder / "output.txt"))
        for name, found in runs.items():
            seconds = [entry[0] for entry in found]
            peak = max(entry[1] for entry in found)
            print(f"{name:32} {min(seconds):6.2f} s least, {statistics.median(seconds):6.2f} s median, {peak:5.0f} MiB")


if __name__ == "__main__":
    main()
