"""Checks a task before anyone waits for it: one model, one step, one epoch, and an estimate of the search."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from tuner.errors import UsageError
from tuner.objective import goal_of
from tuner.recipe import Recipe
from tuner.search import Prepared, SearchRequest, prepare
from tuner.search_space import SearchSpace, find_target
from tuner.training.device import pick_device
from tuner.training.fused.training import FusedTraining
from tuner.training.plain import PlainRun
from tuner.training.trainer import Trainer

TIMED_SECONDS = 5.0
"""An epoch that takes longer is timed by its first steps."""

TOGETHER = 16
"""So many trials, or fewer where they are slow, show what fused training brings."""


def check_target(
    target: str,
    mode: str | None,
    space_file: Path | None,
    settings: Mapping[str, Any],
    device_name: str,
    recipe: str | None = None,
) -> Iterator[str]:
    """What there is to know, a line at a time; raises what a search would raise before its first trial."""
    device = pick_device(device_name)
    found = find_target(target, space_file)
    modes = [mode] if mode else list(found.file.modes) or (["quick"] if found.function else [])
    if not modes:
        raise UsageError("the search space has no modes", place=found.place)
    requests = {
        name: SearchRequest(target, name, space_file=space_file, settings=settings, recipe=recipe) for name in modes
    }
    prepared = {name: prepare(request) for name, request in requests.items()}
    first = next(iter(prepared.values()))
    yield f"task {first.space.task}, search space {first.space.place}"
    if first.task is None:
        yield f"an objective function of its own: {first.space.function}; its trials run one at a time"
        return
    alone, together = yield from _model(first, device)
    for name, entry in prepared.items():
        fused = entry.space.parallel > 1 and entry.space.fuse != "off"
        yield estimate(name, entry.space, together if fused else alone)
        for warning in entry.probe.warnings if entry.probe else ():
            yield f"mode {name}: warning: {warning}"
    if device.type == "cpu":
        yield "no GPU is used: with large models or much data a search will be much slower than on one"


def _model(prepared: Prepared, device: torch.device) -> Generator[str, None, tuple[float, float]]:
    """Build, step, time; the generator's value is the seconds that an epoch of the default recipe takes.

    Alone, and as one of several that train as one batched model, where they can.
    """
    assert prepared.task is not None
    assert prepared.probe is not None
    space, probe = prepared.space, prepared.probe
    recipe, _ = space.recipe_for(space.default_values()[0])
    trainer = Trainer(prepared.task, goal_of(space), probe.terms, device)
    run = trainer.start(recipe)
    data = trainer.data(recipe)
    yield f"data: {len(data.train)} samples to train on, {len(data.validation)} to validate on"  # type: ignore[arg-type]
    yield f"model: {probe.input_shape} -> {probe.output_shape}, {probe.parameters:,} parameters, on {device}"
    yield f"loss terms: {', '.join(probe.terms)}; metrics: {', '.join(probe.metrics) or 'none'}"
    run.step()
    yield f"one step forward and back with {recipe.optimizer}: works"
    per_epoch = seconds_per_epoch(run)
    trial = f"one trial of {recipe.epochs}: {duration(per_epoch * recipe.epochs)}"
    yield f"one epoch of {run.steps_per_epoch} steps: {per_epoch:.2f} s; {trial}"
    together = yield from _fused(trainer, recipe, per_epoch)
    return per_epoch, together


def _fused(trainer: Trainer, recipe: Recipe, alone: float) -> Generator[str, None, float]:
    """Whether trials of this shape train fused; gives the seconds that an epoch then takes for each."""
    fused = FusedTraining(trainer)
    reason = fused.why_not(recipe)
    if reason:
        yield f"fused training: no, trials of this shape train one by one: {reason}"
        return alone
    count = max(2, min(TOGETHER, int(2 * TIMED_SECONDS / alone)))
    members = [fused.start(recipe) for _ in range(count)]
    for member in members:
        member.trajectory += str(id(member))  # equal trials would share one training
    fused.epoch(members)  # the first finds out how many are best trained at once
    started = time.perf_counter()
    fused.epoch(members)
    together = (time.perf_counter() - started) / count
    times = f"{count} trials of one shape at once take {together:.3g} s an epoch each"
    yield f"fused training: works; {times}, {alone / together:.1f} times as fast as alone"
    uncaptured = members[0].program.passes.uncaptured
    if uncaptured:
        yield f"CUDA graphs: none, its steps cannot be captured: {uncaptured}"
    return together


def seconds_per_epoch(run: PlainRun) -> float:
    """Seconds that one epoch takes, measured over a whole epoch or, where that is long, its first steps."""
    started, steps = time.perf_counter(), 0
    while steps < run.steps_per_epoch - 1 and time.perf_counter() - started < TIMED_SECONDS:
        run.step()
        steps += 1
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    spent = time.perf_counter() - started
    if steps < run.steps_per_epoch - 1:
        return spent / max(1, steps) * run.steps_per_epoch
    started = time.perf_counter()
    run.epoch()
    return spent + time.perf_counter() - started


def estimate(mode: str, space: SearchSpace, seconds_per_epoch: float) -> str:
    """How many combinations a mode has, and how long it takes if every trial trains to its end."""
    size, product = space.size(), space.product()
    if product is None:
        combinations = "infinitely many combinations"
    else:
        combinations = f"up to {product:,} combinations" if size is None else f"{size:,} combinations"
    budget = space.budget
    trials = min([entry for entry in (budget.trials, size) if entry is not None], default=None)
    text = f"mode {mode}: {combinations}, sampler {space.sampler}, pruner {space.pruner}"
    if trials is None:
        return f"{text}; ends after {duration(budget.seconds or 0)} of training"
    worst = trials * space.most_epochs() * seconds_per_epoch
    return f"{text}; {trials:,} trials of up to {space.most_epochs()} epochs: {duration(worst)} if none is pruned"


def duration(seconds: float) -> str:
    """Seconds in the largest unit of which there are at least two."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} seconds" if seconds >= 1.5 else "about a second" if seconds >= 0.5 else "under a second"
