"""Fused training beside the loop that a tutorial teaches and the same without DataLoader, on this machine's CPU.

    python benchmarks/fusion.py [--models colors digits-mlp ...] [--epochs 10] [--threads 2] [--out results.json]

All three train the same models, with random learning rates, Adam or AdamW and gradients clipped, an epoch of each in
turn. Training alone counts; making batches, validation and the conductor's share (from a short search) stand apart.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import optuna
import torch
from models import CASES, CLIP, Case, Job
from rich.console import Console
from side_by_side import machine, measured, show, write

from tuner.search import SearchRequest, search
from tuner.storage.studies import Studies

SEARCH_EPOCHS = 3


def storing(case: Case, trials: int, threads: int) -> float:
    """Seconds for each epoch of a trial that a search takes beside the epochs: asking, building, recording, weights."""
    torch.set_num_threads(threads)
    searched = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    mode = {"sampler": "random", "sampler_kwargs": {}, "pruner": "none", "pruner_kwargs": {}, "search": searched}
    settings = {"epochs": SEARCH_EPOCHS, "gradient_clip": CLIP}
    with tempfile.TemporaryDirectory() as folder:
        request = SearchRequest(
            case.target,
            "quick",
            studies=Path(folder),
            settings=settings,
            overrides={**mode, "trials": trials, "parallel": trials},
        )
        ended = search(request, lambda event: None)
        opened = Studies(Path(folder)).load(ended.study)
        rows = opened.epochs.read()
        opened.storage.engine.dispose()
    epochs = float(sum(row["seconds"] for row in rows)) / threads  # of as many parts at once
    return (ended.seconds - epochs) / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--trials", type=int, help="train so many fused, whatever the model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--least", type=float, default=0.5, help="seconds that (a) and (b) train in turn")
    parser.add_argument("--search", action=argparse.BooleanOptionalAction, default=True, help="measure the conductor")
    parser.add_argument("--out", type=Path, help="write everything measured to this file, as JSON")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    device, results = torch.device("cpu"), []
    progress = Console(stderr=True)
    for name in arguments.models:
        case = CASES[name]
        trials = arguments.trials or case.trials["cpu"]
        progress.print(f"{name}: {trials} trials, {arguments.epochs} epochs ...")
        job = Job.of(case, arguments.epochs, device)
        results.append(measured(job, trials, arguments.epochs, arguments.least, arguments.threads))
        if arguments.search:
            results[-1].storing = storing(case, trials, arguments.threads)
    on = machine(device, arguments.threads)
    show(results, on)
    if arguments.out:
        write(arguments.out, results, on)


if __name__ == "__main__":
    main()
