"""What storing and deciding cost per trial: ours, Optuna on its default SQLite, and Optuna in memory, side by side.

    python benchmarks/storage.py [--trials 64] [--finished 0 1000 10000] [--sampler random tpe] [--repeats 3]

Each trial has 3 parameters and 10 epochs; 32 are in flight, in rounds; a median pruner decides after each epoch.
Nothing is trained: what is timed is asking, suggesting, reporting, pruning and telling, and with ours the epoch rows
that Optuna does not have. All three do the same calls in the same order, and must prune the same trials.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from tuner.storage.batched import BatchedStorage
from tuner.storage.connect import connect
from tuner.storage.epochs import EpochRow, EpochRows

IN_FLIGHT, EPOCHS = 32, 10
Transaction = Callable[[], AbstractContextManager[None]]


def value_at(params: dict[str, float], epoch: int) -> float:
    """A learning curve that depends on the parameters alone."""
    distance = (math.log10(params["rate"]) + 3) ** 2 + (params["width"] - 40) ** 2 / 1000 + params["dropout"]
    return distance + 2.0 * math.exp(-epoch / 4)


def rounds(study: optuna.Study, count: int, transaction: Transaction, epochs: EpochRows | None) -> list[TrialState]:
    """Ask, report, prune and tell `count` trials, as a conductor does; gives their states."""
    flying: list[tuple[optuna.Trial, int]] = []
    asked, states = 0, {}
    while asked < count or flying:
        with transaction():
            while asked < count and len(flying) < IN_FLIGHT:
                trial = study.ask()
                trial.suggest_float("rate", 1e-5, 1e-1, log=True)
                trial.suggest_int("width", 8, 64)
                trial.suggest_float("dropout", 0.0, 0.5)
                flying.append((trial, 0))
                asked += 1
        with transaction():
            rows = []
            for trial, epoch in flying:
                trial.report(value_at(trial.params, epoch + 1), epoch + 1)
                rows.append(EpochRow(trial._trial_id, trial.number, epoch + 1, 0.1, 1.0, 0.1, {"val_loss": 1.0}))
            if epochs is not None:
                epochs.write(rows)
            still = []
            for trial, epoch in flying:
                if trial.should_prune():
                    states[trial.number] = study.tell(trial, state=TrialState.PRUNED).state
                elif epoch + 1 == EPOCHS:
                    states[trial.number] = study.tell(trial, value_at(trial.params, EPOCHS)).state
                else:
                    still.append((trial, epoch + 1))
            flying = still
    return [states[number] for number in sorted(states)]


def finished_trials(count: int) -> list[optuna.trial.FrozenTrial]:
    """Complete trials of an earlier search."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(count):
        trial = study.ask()
        trial.suggest_float("rate", 1e-5, 1e-1, log=True)
        trial.suggest_int("width", 8, 64)
        trial.suggest_float("dropout", 0.0, 0.5)
        for epoch in range(1, EPOCHS + 1):
            trial.report(value_at(trial.params, epoch), epoch)
        study.tell(trial, value_at(trial.params, EPOCHS))
    return study.get_trials(deepcopy=False)


@contextmanager
def storages(folder: Path, earlier: list[optuna.trial.FrozenTrial]) -> Iterator[dict[str, BaseStorage]]:
    """Three storages that hold the same earlier trials."""
    ours = BatchedStorage(connect(folder / "ours.db"))
    study = optuna.create_study(study_name="s", storage=ours)
    with ours.transaction():
        for trial in earlier:
            study.add_trial(trial)
    plain = folder / "plain.db"
    with ours.engine.connect() as connection:
        connection.exec_driver_sql(f"VACUUM INTO '{plain}'")
    memory = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="s", storage=memory).add_trials(earlier)
    yield {
        "ours": ours,
        "Optuna, SQLite": optuna.storages.get_storage(f"sqlite:///{plain}"),
        "Optuna, in memory": memory,
    }
    ours.engine.dispose()


def seconds_per_trial(storage: BaseStorage, sampler: str, count: int) -> tuple[float, list[TrialState]]:
    """Wall time per trial, and how the trials ended."""
    make = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}[sampler]
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
    study = optuna.load_study(study_name="s", storage=storage, sampler=make(seed=0), pruner=pruner)
    study.get_trials(deepcopy=False)  # read what is there, as a resumed search does once
    transaction: Transaction = storage.transaction if isinstance(storage, BatchedStorage) else nullcontext
    epochs = EpochRows(storage) if isinstance(storage, BatchedStorage) else None
    started = time.perf_counter()
    states = rounds(study, count, transaction, epochs)
    return (time.perf_counter() - started) / count, states


def compare(earlier: list[optuna.trial.FrozenTrial], sampler: str, count: int) -> list[float]:
    """Seconds per trial of ours, of Optuna on SQLite, and of Optuna in memory, one after the other."""
    with tempfile.TemporaryDirectory() as folder, storages(Path(folder), earlier) as all_three:
        timed = [seconds_per_trial(storage, sampler, count) for storage in all_three.values()]
    assert len({tuple(states) for _, states in timed}) == 1, "the storages decided differently"
    return [seconds for seconds, _ in timed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many runs counts")
    parser.add_argument("--finished", type=int, nargs="+", default=[0, 1_000, 10_000])
    parser.add_argument("--sampler", choices=["tpe", "random"], nargs="+", default=["random", "tpe"])
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    compare([], "tpe", 8)  # what is imported and compiled once is not counted
    print(f"{'finished':>9} {'sampler':>8} {'ours':>10} {'SQLite':>10} {'memory':>10}   SQLite/ours  ours/memory")
    for finished in arguments.finished:
        earlier = finished_trials(finished)
        for sampler in arguments.sampler:
            runs = [compare(earlier, sampler, arguments.trials) for _ in range(arguments.repeats)]
            ours, plain, memory = (statistics.median(times) for times in zip(*runs, strict=True))
            times = " ".join(f"{1000 * seconds:7.2f} ms" for seconds in (ours, plain, memory))
            print(f"{finished:>9} {sampler:>8} {times}   {plain / ours:10.1f}x {ours / memory:11.2f}x", flush=True)


if __name__ == "__main__":
    main()
