"""Several processes on one device at once, each training one trial after another."""

from __future__ import annotations

import time
from typing import Any

import torch
from loops import IndexingLoop
from models import CASES, Job
from torch import multiprocessing

PATIENCE = 300.0
"""Seconds that the processes wait for one another."""


def rate_of_processes(model: str, count: int, device: str, seconds: float, precision: str = "float32") -> float:
    """Trial-epochs per second, training alone, of `count` processes that train for so long at the same time.

    Raises `RuntimeError` where one of them fails.
    """
    context = multiprocessing.get_context("spawn")
    together, rates = context.Barrier(count, timeout=PATIENCE), context.SimpleQueue()
    rest = (model, device, seconds, precision, together, rates)
    processes = [context.Process(target=_work, args=(number, *rest)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"{model}: of {count} processes on one device some have failed")
    return float(sum(rates.get() for _ in processes))


def _work(number: int, model: str, device: str, seconds: float, precision: str, together: Any, rates: Any) -> None:
    """One of the processes, whose rate goes into `rates`."""
    try:
        rates.put(_rate(number, model, device, seconds, precision, together))
    except BaseException:
        together.abort()  # the others are not to wait for this one
        raise


def _rate(number: int, model: str, device: str, seconds: float, precision: str, together: Any) -> float:
    torch.set_num_threads(1)
    job = Job.of(CASES[model], 1, torch.device(device), precision)
    loop = IndexingLoop(job, job.recipes(number + 1)[number], threads=1)
    loop.epoch()  # to warm up
    together.wait()
    started = time.perf_counter()
    spent = [loop.epoch().training]
    while time.perf_counter() - started < seconds:
        spent.append(loop.epoch().training)
    together.wait()  # none is to be faster because another has ended
    return len(spent) / sum(spent)
