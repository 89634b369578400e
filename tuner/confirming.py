"""Confirms a study: trains its best settings again over fresh seeds, and scores them on the test split.

The fresh runs are a study of their own beside the first, `NAME-confirm`: its space is that of the first with the seed
searched, all its trials are queued, and the conductor runs it like any other.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial

from tuner.analysis.confirmation import (
    CONFIRMS,
    SEEDS,
    TEST,
    Confirmation,
    candidates,
    confirmation,
    confirming_name,
    confirms_one_of,
    seed_of,
    setting_of,
)
from tuner.engines.local import Local
from tuner.errors import StudyChangedError, UsageError
from tuner.events import Emit, Note
from tuner.objective import goal_of
from tuner.probe import Probe
from tuner.proposing.proposal import enqueue
from tuner.registry import source_hash
from tuner.resolve import resolve
from tuner.rounds.width import with_width
from tuner.search import Prepared, Work, check_folder, conduct
from tuner.search_space.expression import Expression
from tuner.search_space.parameter import IntRange
from tuner.search_space.space import Budget, SearchSpace
from tuner.search_space.stored import stored_space
from tuner.signals import Interrupts
from tuner.storage.batched import BatchedStorage
from tuner.storage.studies import OpenStudy, Studies, check_unchanged, mark_ready, version_changes
from tuner.tasks import Task, load_task, task_source
from tuner.training.device import pick_device
from tuner.training.keeping import Keep
from tuner.training.standing import Standing
from tuner.training.testing import scores_on_test
from tuner.training.trainer import Trainer

FIRST_SEED, LAST_SEED = 1000, 2**31 - 1
"""Fresh seeds are counted from here; those that the search has used are left out."""

REMEDY = "Give --accept-changes to go on with the new settings"


@dataclass(frozen=True)
class ConfirmRequest:
    """What a user asked for: the `top` best settings of a study (None: the newest), over so many `seeds`."""

    study: str | None = None
    top: int = 5
    seeds: int = 5
    studies: Path = Path("studies")
    device: str = "auto"
    accept_changes: bool = False


def confirm(request: ConfirmRequest, emit: Emit) -> Confirmation:
    """Train what is missing of the confirmation that a user asked for; gives all of it.

    Raises `UsageError` before anything is written; else as `search` does.
    """
    check_folder(request.studies)
    studies = Studies(request.studies.absolute())  # a task may change the working directory
    with Interrupts() as interrupts, interrupts.at_once():
        searched = _searched(request)
        device, name = pick_device(request.device), confirming_name(searched.study_name)
        task = _task_of(searched, request.accept_changes)
        space, probe = resolve(confirming_space(searched), task)
        space = with_width(space, task.fusable, probe.parameters)
        wanted = _refitted(searched, space, request.top, emit)
        prepared = Prepared(space, task_source(task), task, probe)

        def open_study(storage: BatchedStorage) -> tuple[OpenStudy, SearchSpace]:
            return _open(studies, storage, prepared, searched, wanted, request, emit)

        shown, bodies = Studies(request.studies).database(name), _bodies(task, space, probe, device, interrupts)
        conduct(Work(studies, name, shown, open_study, Keep(), device, bodies, prepared), interrupts, emit)
    return confirmation(searched, Studies(studies.folder).load(name).study)


def _searched(request: ConfirmRequest) -> optuna.Study:
    """The study to confirm; `UsageError` for one that cannot be."""
    studies = Studies(request.studies)
    name = studies.chosen(request.study)
    study = studies.load(name).study
    first = study.user_attrs.get(CONFIRMS)
    if first is not None and request.study is None:  # the newest study is the confirmation of another: go on with it
        study = studies.load(first).study
    elif first is not None:
        raise UsageError("the study confirms another one itself", place=name, hint=f"Give tuner confirm {first}")
    known, name = study.user_attrs.get("space"), study.study_name
    if not isinstance(known, Mapping):
        raise UsageError("was made by another program, so its recipes are not known", place=name)
    if re.search(r"\.py:", known["task"]):
        rule = "an objective function chooses its own seeds and has no recipe, so it cannot be confirmed"
        raise UsageError(rule, place=name, value=known["task"])
    if not candidates(study, 1):
        raise UsageError("no trial of the study is complete, so there is nothing to confirm", place=name)
    return study


def _task_of(study: optuna.Study, accept_changes: bool) -> Task:
    """The task of a study; `UsageError` where its file is gone, `StudyChangedError` where it is another by now."""
    name, reference = study.study_name, study.user_attrs["space"]["task"]
    if reference.endswith(".py") and not Path(reference).is_file():
        hint = "A study names its task's file by its path from the folder where the search was run."
        raise UsageError("the task's file is gone", place=name, value=reference, hint=hint)
    task = load_task(reference)
    if study.user_attrs.get("task_hash") != source_hash(task_source(task)) and not accept_changes:
        rule = "the task's source file has changed since the search, whose values mean something else now"
        hint = "Search again, or give --accept-changes to confirm the settings with the task as it is."
        raise StudyChangedError(rule, place=name, hint=hint)
    return task


def confirming_space(study: optuna.Study) -> SearchSpace:
    """The stored space of a study, its seed searched besides, and the other seeds derived from it.

    Nothing is sampled in it, nothing pruned, and constraints on seeds are dropped. How many trials are in flight goes
    by the rule for what is drawn at random, so that the settings of one shape are one group.
    """
    found = stored_space(study.user_attrs["space"], study.study_name)
    seed = Expression("seed", found.place)
    others = {path: expression for path, expression in found.derived.items() if path not in SEEDS}
    return replace(
        found,
        name=confirming_name(found.name),
        mode="confirm",
        parameters=(
            *(entry for entry in found.parameters if entry.path not in SEEDS),
            IntRange("seed", {}, 0, LAST_SEED),
        ),
        derived={"data_seed": seed, "dropout_seed": seed, **others},
        constraints=tuple(entry for entry in found.constraints if not {*SEEDS}.intersection(entry.names())),
        sampler="random",
        sampler_kwargs={},
        pruner="none",
        pruner_kwargs={},
        parallel=1,
        parallel_by_rule=True,
        study_seed=0,
    )


Settings = list[tuple[int, dict[str, Any]]]
"""Trials of the search, and their searched values but for the seeds."""


def _refitted(study: optuna.Study, space: SearchSpace, top: int, emit: Emit) -> Settings:
    """The candidates by number with their values in `space`; what it no longer makes is left out, with a note."""
    found = [(trial.number, _values(trial, space)) for trial in candidates(study, top)]
    gone = [number for number, values in found if values is None]
    for number in gone:
        rule = "changes of the study's settings were accepted since, and its recipe is none of them"
        emit(Note(f"trial {number} is left out: {rule}", "warning"))
    if len(gone) == len(found):
        raise UsageError("none of the best trials has a recipe of the study's present settings", place=study.study_name)
    return [(number, values) for number, values in found if values is not None]


def _values(trial: FrozenTrial, space: SearchSpace) -> dict[str, Any] | None:
    """A trial's searched values but for the seeds; None where in `space` they are another recipe than the trial's."""
    by_path = {entry.path: entry for entry in space.parameters if entry.path not in SEEDS}
    known = trial.user_attrs.get("values")
    if known is None:  # begun by `Objective` in plain Optuna
        known = {path: entry.decode(trial.params[path]) for path, entry in by_path.items() if path in trial.params}
    values = {path: value for path, value in known.items() if path in by_path}
    if not all(by_path[path].contains(value) for path, value in values.items()):
        return None
    recipe, violated = space.recipe_for({**values, "seed": FIRST_SEED})
    same = setting_of(recipe.model_dump()) == setting_of(trial.user_attrs["recipe"])
    return values if same and not violated else None


def fresh_seeds(study: optuna.Study, used: Sequence[int], count: int) -> list[int]:
    """`count` seeds: the ones in `used`, in order, and then those from 1000 on that no trial of `study` had."""
    recipes = [trial.user_attrs.get("recipe", {}) for trial in study.get_trials(deepcopy=False)]
    stale = {recipe.get(name) for recipe in [study.user_attrs["space"]["recipe"], *recipes] for name in SEEDS}
    fresh = (seed for seed in itertools.count(FIRST_SEED) if seed not in stale and seed not in used)
    return [*used, *itertools.islice(fresh, max(0, count - len(used)))][:count]


def _open(
    studies: Studies,
    storage: BatchedStorage,
    prepared: Prepared,
    searched: optuna.Study,
    wanted: Settings,
    request: ConfirmRequest,
    emit: Emit,
) -> tuple[OpenStudy, SearchSpace]:
    """The confirming study with all that is wanted queued, and its space with the budget that this makes."""
    space, task_hash, threads = prepared.space, source_hash(prepared.source), torch.get_num_threads()
    name = searched.study_name
    opened = studies.open(space.name, space, task_hash, threads, storage)
    if opened.existed and opened.study.user_attrs.get(CONFIRMS) != name:
        rule = f"there is a study of this name that does not confirm '{name}'"
        raise UsageError(rule, place=space.name, hint=f"Rename one of the two: {space.name}.db")
    trials = [trial for trial in opened.study.get_trials(deepcopy=False) if CONFIRMS in trial.user_attrs]
    of_search = dict(enumerate(searched.get_trials(deepcopy=False)))
    if not all(confirms_one_of(trial, of_search) for trial in trials):
        rule = f"it confirms a study '{name}' that is no longer this one: its settings are others"
        raise UsageError(rule, place=space.name, hint=f"Remove or rename {space.name}.db, and confirm anew.")
    seeds = fresh_seeds(searched, list(dict.fromkeys(map(seed_of, trials))), request.seeds)
    missing = list(_missing(trials, wanted, seeds))
    space = replace(space, budget=Budget(trials=len(trials) + len(missing)))
    if opened.existed:
        accept = request.accept_changes
        for line in check_unchanged(opened.study, space, task_hash, threads, accept, REMEDY):
            emit(Note(f"accepted change: {line}", "warning"))
        for line in version_changes(opened.study, threads):
            emit(Note(f"the study was made elsewhere: {line}; results may differ in the last bits", "warning"))
    with opened.storage.transaction():
        for number, values in missing:
            enqueue(opened.study, space, values, f"{name}, trial {number}", {CONFIRMS: number})
        opened.study.set_user_attr("budget", asdict(space.budget))
        if not opened.existed:
            opened.study.set_user_attr(CONFIRMS, name)
            opened.study.set_user_attr("target", searched.user_attrs.get("target"))
            mark_ready(opened.study)
    return opened, space


def _missing(
    trials: Sequence[FrozenTrial], wanted: Settings, seeds: Sequence[int]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """What is wanted and not there: setting by setting, so that those in flight together are of few shapes."""
    there = {(trial.user_attrs[CONFIRMS], seed_of(trial)) for trial in trials}
    for number, values in wanted:
        for seed in seeds:
            if (number, seed) not in there:
                yield number, {**values, "seed": seed}


def _bodies(
    task: Task, space: SearchSpace, probe: Probe, device: torch.device, interrupts: Interrupts
) -> dict[str, Any]:
    """How the conductor starts a trial, and looks at it in the end."""
    trainer = Trainer(task, goal_of(space), probe.terms, device)

    def examine(run: Standing, between_steps: Callable[[], None]) -> dict[str, Any]:
        scores = scores_on_test(trainer, run, between_steps)
        return {} if scores is None else {TEST: scores}

    return {"engine": Local(trainer, space, interrupts), "examine": examine}
