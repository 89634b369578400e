"""Warm start: what an earlier study found, put into a new one while it is made."""

from __future__ import annotations

import shutil
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, create_trial

from tuner.errors import StudyChangedError, StudyNotFoundError, UsageError
from tuner.files import replacing, series_path, weights_path, write_atomically
from tuner.proposing.earlier import Earlier, Setting, find_earlier
from tuner.proposing.proposal import enqueue, recipe_key
from tuner.search_space.space import SearchSpace
from tuner.search_space.yaml_file import dump_yaml
from tuner.storage.connect import explained
from tuner.storage.epochs import EpochRow
from tuner.storage.naming import named
from tuner.storage.studies import WARM_START, OpenStudy, Studies, version_changes
from tuner.training.keeping import Keep

PLACE = "--warm-start"
DEFAULT_RECIPE = "default recipe"
"""What a trial of the default recipe is `enqueued` by."""

CARRIED = (
    "best_epoch", "best_train_loss", "best_val_loss", "diverged", "epochs_asked", "epochs_done", "final_train_loss",
    "final_val_loss", "gap", "reason", "retries", "seconds", "trained",
)  # fmt: skip
"""User attributes of an earlier trial that stay true of it; others are about its place in its own study."""


@dataclass(frozen=True)
class WarmStart:
    """What the study `name` gives to a new one; `source` is the study itself, `files` where its files lie."""

    name: str
    source: OpenStudy
    files: Path
    found: Earlier

    def told(self) -> str:
        """What is taken over, in a sentence."""
        taken, queued, others = len(self.found.taken), len(self.found.queued), self.found.others
        of = taken + others.total()
        diverged = f", {self.found.diverged} of them diverged" if self.found.diverged else ""
        head = f"{taken} of {of} trials of {self.name} taken over{diverged}"
        reasons = ", ".join(f"{count} {reason}" for reason, count in others.most_common())
        left = f"; not taken: {reasons}" if reasons else ""
        best = f"; {queued} of its best settings queued" if queued else ""
        return head + left + best


def check_same_start(study: optuna.Study, given: str | None) -> None:
    """Raise `StudyChangedError` where a study that is there is to take over from another than it did at its making."""
    began = study.user_attrs.get(WARM_START, {}).get("study")
    if given is None or named(given, Path()).name == began:
        return
    rule = "the study began without it" if began is None else f"the study began with {began}"
    hint = "Only a new study takes over from another: give --study NEW."
    raise StudyChangedError(rule, place=f"{study.study_name}: {PLACE}", value=given, hint=hint)


def read_earlier(given: str, studies: Studies, own: Path, space: SearchSpace, task_hash: str) -> WarmStart:
    """What the study `given` (its name, FILE.db, or FILE.db:NAME) has for a search of `space`, whose database is `own`.

    Raises `UsageError` where there is no such study, or one of another task, metric or direction; `StorageError` where
    it cannot be read.
    """
    if space.function is not None:
        rule = "an objective function suggests its own values, so nothing can be taken over"
        raise UsageError(rule, place=PLACE, value=given)
    earlier = named(given, studies.folder)
    if not earlier.by_file:
        studies.database(given, PLACE)
    if earlier.path.resolve() == own.resolve():
        raise UsageError("a study cannot take over from itself", place=PLACE, value=given)
    with explained(earlier.path):
        try:
            source = studies.load(given)
        except StudyNotFoundError as error:
            raise error.at(PLACE) from None
        stored = source.study.user_attrs
        _check_same_goal(stored, space, task_hash, given)
        trials = source.study.get_trials(deepcopy=False)
    known = [] if space.sampler == "grid" else [default_key(space)]
    found = find_earlier(trials, space, space.maximize, _barrier(stored, space, task_hash), known)
    return WarmStart(earlier.name, source, source.files, found)


def default_key(space: SearchSpace) -> str:
    """The key of the default recipe, as it is tried."""
    return recipe_key(space.recipe_for(space.default_values()[0])[0].model_dump())


def _check_same_goal(stored: Mapping[str, Any], space: SearchSpace, task_hash: str, given: str) -> None:
    """Its values must mean what those of the new study will."""
    about = stored.get("space")
    if not isinstance(about, Mapping):
        hint = "Known-good settings of any origin can be given by --enqueue."
        raise UsageError("the study was made by another program", place=PLACE, value=given, hint=hint)
    task = str(about.get("task"))
    if stored.get("task_hash") != task_hash and Path(task).name != Path(space.task).name:
        raise UsageError(f"its task is {task}, and that of this search is {space.task}", place=PLACE, value=given)
    for key in ("metric", "direction"):
        if about.get(key) != getattr(space, key):
            rule = f"its {key} is {about.get(key)}, and that of this search is {getattr(space, key)}"
            raise UsageError(rule, place=PLACE, value=given)


def _barrier(stored: Mapping[str, Any], space: SearchSpace, task_hash: str) -> str:
    """Why no result of a study holds for a new one, whatever its recipe; "" where that is not so."""
    if stored.get("task_hash") != task_hash:
        return "of another version of the task's source"
    value = stored["space"].get("value")
    return "" if value == space.value else f"valued by their {value} epoch (now {space.value})"


def foreign_versions(start: WarmStart, threads: int) -> str:
    """How the versions and the machine differ that the trials taken over were trained with; "" where they do not."""
    changes = version_changes(start.source.study, threads) if start.found.taken else []
    return f"the trials taken over were trained elsewhere: {'; '.join(changes)}" if changes else ""


def write_earlier(start: WarmStart, opened: OpenStudy, space: SearchSpace, with_weights: Container[int]) -> None:
    """Write the trials taken over, with their epochs; within a transaction.

    `with_weights` are the new numbers of those whose weights were copied (see `copy_files`).
    """
    study, rows = opened.study, []
    epochs = _epochs_of(start)
    default = default_key(space)
    for number, setting in enumerate(start.found.taken):
        trial = _taken(setting, start.name)
        if setting.key == default:
            trial.user_attrs["enqueued"] = DEFAULT_RECIPE
        if number in with_weights:
            trial.user_attrs["weights"] = f"{opened.files.name}/{weights_path(opened.files, number).name}"
        study.add_trial(trial)
        trial_id = study.get_trials(deepcopy=False)[number]._trial_id
        rows += [_epoch_row(row, trial_id, number) for row in epochs.get(setting.trial._trial_id, ())]
    opened.epochs.write(rows)


def queue_earlier(start: WarmStart, opened: OpenStudy, space: SearchSpace) -> None:
    """Queue the earlier study's best settings; within a transaction."""
    for setting in start.found.queued:
        enqueue(opened.study, space, setting.values, f"{start.name}, trial {setting.trial.number}")


def _taken(setting: Setting, study: str) -> FrozenTrial:
    """An earlier trial as it stands in the new study."""
    trial = setting.trial
    attrs = {key: trial.user_attrs[key] for key in CARRIED if key in trial.user_attrs}
    attrs |= {"values": dict(setting.values), "recipe": setting.recipe.model_dump()}
    attrs[WARM_START] = {"study": study, "trial": trial.number}
    made = create_trial(
        state=trial.state,
        values=trial.values,
        params=dict(setting.params),
        distributions=dict(setting.distributions),
        user_attrs=attrs,
        intermediate_values=dict(trial.intermediate_values),
    )
    made.datetime_start, made.datetime_complete = trial.datetime_start, trial.datetime_complete
    return made


def _epochs_of(start: WarmStart) -> dict[int, list[dict[str, Any]]]:
    """The epoch rows of the trials taken over, by Optuna's id in the earlier study."""
    ids = [setting.trial._trial_id for setting in start.found.taken]
    found: dict[int, list[dict[str, Any]]] = {}
    for row in start.source.epochs.read(ids) if ids else ():
        found.setdefault(row["trial_id"], []).append(row)
    return found


def _epoch_row(row: Mapping[str, Any], trial_id: int, number: int) -> EpochRow:
    return EpochRow(
        trial_id=trial_id,
        trial=number,
        epoch=row["epoch"],
        learning_rate=row["learning_rate"],
        gradient_norm=row["gradient_norm"],
        seconds=row["seconds"],
        metrics=row["metrics"],
    )


def copy_files(start: WarmStart, opened: OpenStudy, space: SearchSpace, keep: Keep) -> set[int]:
    """Copy the series of the trials taken over, and such weights as are to be kept, under their new numbers.

    Gives the numbers of those that have weights now.
    """
    taken = dict(enumerate(start.found.taken))
    values = {
        number: float(setting.trial.value)
        for number, setting in taken.items()
        if setting.trial.value is not None and weights_path(start.files, setting.trial.number).is_file()
    }
    chosen = keep.chosen(values, space.maximize)
    for number, setting in taken.items():
        _copy(series_path(start.files, setting.trial.number), series_path(opened.files, number))
    return {number for number in sorted(chosen) if _copy_weights(start, opened.files, space, number, taken[number])}


def _copy_weights(start: WarmStart, files: Path, space: SearchSpace, number: int, setting: Setting) -> bool:
    """Copy a trial's weights, and write its recipe beside them before that."""
    path = weights_path(files, number)
    content = {**space.about(), "recipe": setting.recipe.model_dump()}
    write_atomically(path.with_suffix(".yaml"), dump_yaml(content).encode())
    return _copy(weights_path(start.files, setting.trial.number), path)


def _copy(source: Path, destination: Path) -> bool:
    """Copy a file if it is there: its study may be at work, and delete what is no longer among the best."""
    if not source.is_file():
        return False
    with suppress(FileNotFoundError), replacing(destination) as draft:
        shutil.copyfile(source, draft)
        return True
    return False
