"""Trains one recipe: a task's defaults, a recipe's file, or a trial of a study."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.errors import InterruptedRunError, UsageError
from tuner.events import Emit, EpochDone, Note
from tuner.files import write_atomically
from tuner.objective import goal_of
from tuner.recipe import Recipe
from tuner.report.export import pick_trial
from tuner.report.words import plural
from tuner.resolve import resolve
from tuner.search_space import SearchSpace, find_target
from tuner.search_space.build import plain_space
from tuner.search_space.file import SpaceFile, Target
from tuner.signals import Interrupts
from tuner.storage.studies import Studies
from tuner.tasks import load_task
from tuner.training.device import pick_device
from tuner.training.keeping import save_trial
from tuner.training.plain import PlainRun
from tuner.training.preview import Recorder, recorder_of
from tuner.training.run import EpochRecord
from tuner.training.series import save_series
from tuner.training.trainer import Callback, Trainer, train


@dataclass(frozen=True)
class TrainRequest:
    """What a user asked for: a `target` of one kind, or a trial of a study (None: the best)."""

    target: str | None = None
    study: str | None = None
    trial: int | None = None
    studies: Path = Path("studies")
    out: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    recipe: str | None = None
    record_preview: int | None = None


@dataclass(frozen=True)
class Trained:
    """What came of it: the files' folder, the metric and its value (None: diverged), and the reason it ended."""

    folder: Path
    metric: str
    value: float | None
    reason: str
    epochs_done: int
    gap: float | None


def train_recipe(request: TrainRequest, emit: Emit) -> Trained:
    """Train one recipe and save weights, recipe, epochs and series.

    Raises `UsageError` before anything is written. On a signal the epochs trained so far are saved, and
    `InterruptedRunError` says where.
    """
    with Interrupts() as interrupts, interrupts.at_once():
        space = plain_space(target_of(request), request.settings, request.recipe)
        task = load_task(space.task)
        space, probe = resolve(space, task)
        recipe, _ = space.recipe_for({})
        folder = request.out or free_folder(request.studies, f"{space.name}-train")
        refuse_used(folder)
        trainer = Trainer(task, goal_of(space), probe.terms, pick_device(request.device))
        run = trainer.start(recipe, interrupts.check)
        recorder = recorder_of(request.record_preview, task, run)
        for warning in probe.warnings:
            emit(Note(warning, "warning"))
        emit(Note(f"training {space.task} for {plural(recipe.epochs, 'epoch')} on {run.device}"))
        try:
            with interrupts.at_safe_points():
                _train(run, recorder, lambda record: announced(record, space, recipe.epochs, emit))
        except InterruptedRunError as error:
            kept = "Nothing was saved, for no epoch was whole. Again with:"
            if run.epochs_done:
                save_run(folder, run, space, recorder)
                kept = f"{run.epochs_done} epochs are saved in {folder}. Start over with:"
            raise InterruptedRunError(error.signal_number, kept) from None
        with interrupts.at_safe_points():
            save_run(folder, run, space, recorder)
        result = run.result()
        gap = result.summary().get("gap")
        return Trained(folder, space.metric, result.value, result.reason, result.epochs_done, gap)


def refuse_used(folder: Path) -> None:
    """Raise `UsageError` for a folder that has something in it or that cannot be made."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise UsageError("not a folder", place="--out", value=str(there))
    if not os.access(there, os.W_OK):
        raise UsageError("nothing can be written here", place="--out", value=str(there))
    if folder.exists() and any(folder.iterdir()):
        raise UsageError("the folder is not empty", place="--out", value=str(folder))


def target_of(request: TrainRequest) -> Target:
    """The target, or the recipe of a study's trial as one; `UsageError` where neither or both are given."""
    if request.study is None:
        if request.trial is not None:
            raise UsageError("goes with --from STUDY", place="--trial", value=request.trial)
        if request.target is None:
            raise UsageError("say what to train: a task, a recipe's file, or --from STUDY")
        return find_target(request.target)
    if request.target is not None:
        raise UsageError("give a task or --from STUDY, not both", value=request.target)
    opened = Studies(request.studies).load(request.study)
    trial = pick_trial(opened, request.trial)
    known = opened.study.user_attrs.get("space", {})
    if "recipe" not in trial.user_attrs:
        raise UsageError("the trial has no recipe: its objective is a function of its own", place=request.study)
    file = SpaceFile(
        task=known["task"],
        metric=known["metric"],
        direction=known["direction"],
        value=known["value"],
        recipe=trial.user_attrs["recipe"],
    )
    return Target(known["task"], file, f"{request.study}, trial {trial.number}")


def announced(record: EpochRecord, space: SearchSpace, epochs: int, emit: Emit) -> None:
    """Tell of an epoch."""
    for note in record.notes:
        emit(Note(note))
    emit(
        EpochDone(
            trial=0,
            epoch=record.epoch,
            epochs=epochs,
            train_loss=record.train_loss,
            val_loss=record.val_loss,
            learning_rate=record.learning_rate,
            value=record.values[space.metric],
            metrics=dict(record.values),
        )
    )


def _train(run: PlainRun, recorder: Recorder | None, announce: Callback) -> None:
    """Train a run to its end, the recorder looking on after every step."""
    if recorder is None:
        train(run, (announce,))
        return
    while not run.done:
        while not run.epoch_is_trained:
            run.step()
            recorder.take(run.steps_done)
            run.check_stop()
        for record in run.epoch():
            announce(record)


def save_run(
    folder: Path, run: PlainRun, space: SearchSpace, recorder: Recorder | None = None, recipe: Recipe | None = None
) -> None:
    """Write recipe, weights, epochs (CSV), per-step series (npz) and any animation, each in place at once.

    The recipe is the run's, unless another is given.
    """
    save_trial(
        folder / "weights.safetensors",
        folder / "recipe.yaml",
        run.kept_weights(),
        (recipe or run.recipe).model_dump(),
        space.about(),
    )
    write_atomically(folder / "epochs.csv", _epochs_csv(run.records).encode())
    save_series(folder / "series.npz", run.series, run.trace)
    if recorder is not None:
        recorder.save(folder / "preview.gif")


def _epochs_csv(records: list[EpochRecord]) -> str:
    """The epoch records as CSV, a column a recorded name."""
    text = io.StringIO()
    names = list(records[0].values) if records else []
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", "steps", *names, "learning_rate", "gradient_norm", "seconds"])
    for record in records:
        values = [record.values[name] for name in names]
        writer.writerow(
            [record.epoch, record.steps, *values, record.learning_rate, record.gradient_norm, record.seconds]
        )
    return text.getvalue()


def free_folder(studies: Path, name: str) -> Path:
    """The first of `name-001`, `name-002`, ... that is not there."""
    number = 1
    while (studies / f"{name}-{number:03d}").exists():
        number += 1
    return studies / f"{name}-{number:03d}"
