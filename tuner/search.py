"""A search from what a user named to its end: resolve, open or resume the study, conduct."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import TrialState

from tuner.conductor import Conductor
from tuner.engines.local import Local
from tuner.errors import InterruptedRunError, UsageError, did_you_mean
from tuner.events import Emit, Note, StudyEnded, StudyOpened
from tuner.objective import ObjectiveRun, goal_of
from tuner.probe import Probe
from tuner.proposing.proposal import check_enqueued, encoded, enqueue
from tuner.proposing.pruners import check_pruner
from tuner.proposing.samplers import check_sampler
from tuner.registry import function_in, load_file, source_hash
from tuner.resolve import resolve
from tuner.rounds.making import make, notes_of_making
from tuner.rounds.score import score_of
from tuner.rounds.warm_start import DEFAULT_RECIPE, WarmStart, check_same_start, read_earlier
from tuner.rounds.width import with_width
from tuner.search_space import SearchSpace, Target, build_space, find_target
from tuner.search_space.yaml_file import read_yaml
from tuner.signals import Interrupts
from tuner.storage.batched import BatchedStorage
from tuner.storage.connect import explained
from tuner.storage.lease import Lease
from tuner.storage.studies import OpenStudy, Studies, check_unchanged, version_changes
from tuner.tasks import Task, load_task, task_source
from tuner.training.device import pick_device
from tuner.training.keeping import Keep, drop_drafts
from tuner.training.trainer import Trainer


@dataclass(frozen=True)
class SearchRequest:
    """What a user asked for.

    `overrides` replace keys of the mode; `recipe` names a ready recipe, and `settings` fix values of the recipe.
    `warm_start` names an earlier study (or its database) that a new one takes trials over from.
    """

    target: str
    mode: str
    studies: Path = Path("studies")
    study: str | None = None
    space_file: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    direction: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    keep: str = "best"
    enqueue: Path | None = None
    warm_start: str | None = None
    accept_changes: bool = False


@dataclass(frozen=True)
class Prepared:
    """A search that has passed every check; `task` and `probe` are None for an objective function."""

    space: SearchSpace
    source: Path
    task: Task | None
    probe: Probe | None

    @property
    def hash(self) -> str:
        """That of the task's source."""
        return source_hash(self.source)


def prepare(request: SearchRequest) -> Prepared:
    """Check everything that can be checked before the first trial; `UsageError` at the first problem."""
    target = _directed(find_target(request.target, request.space_file), request.direction)
    space = build_space(target, request.mode, request.settings, request.recipe, **request.overrides)
    where = f"{space.place}: modes.{space.mode}"
    check_sampler(space.sampler, space.sampler_kwargs, where)
    check_pruner(space.pruner, space.pruner_kwargs, where, space.function is not None)
    if space.function is not None:
        path = Path(space.task)
        function_in(load_file(path), space.function, path)
        return Prepared(space, path, None, None)
    task = load_task(space.task)
    space, probe = resolve(space, task)
    space = with_width(space, task.fusable, probe.parameters)
    return Prepared(space, task_source(task), task, probe)


def _directed(target: Target, direction: str | None) -> Target:
    """The target with the direction from the command line; a task's search space says its own."""
    if direction is None:
        return target
    if direction not in ("minimize", "maximize"):
        hint = did_you_mean(direction, ("minimize", "maximize"))
        raise UsageError("is minimize or maximize", place="--direction", value=direction, hint=hint)
    if target.function is None:
        raise UsageError("a task's direction stands in its search space", place="--direction", value=direction)
    return replace(target, file=target.file.model_copy(update={"direction": direction}))


def search(request: SearchRequest, emit: Emit) -> StudyEnded:
    """Run or resume a search to the end of its budget.

    Raises `UsageError` before anything is written, `StorageError`, `SearchStoppedError`, and
    `InterruptedRunError` on a signal, with everything recorded kept.
    """
    check_folder(request.studies)
    studies = Studies(request.studies.absolute())  # a task may change the working directory
    with Interrupts() as interrupts, interrupts.at_once():
        keep, device = Keep.parse(request.keep), pick_device(request.device)
        prepared = prepare(request)
        space = prepared.space
        name = request.study or f"{space.name}-{space.mode}"
        queue = _queue(request, space)
        shown = Studies(request.studies).database(name)

        # What is wrong with it is said before anything is written; a study that is there does not need it any more.
        start = None if shown.exists() else _warm_start(request, studies, name, prepared)

        def open_study(storage: BatchedStorage) -> tuple[OpenStudy, SearchSpace]:
            opened = studies.open(name, space, prepared.hash, torch.get_num_threads(), storage)
            if opened.existed:
                _resume(opened, prepared, request, queue, emit)
            else:
                with interrupts.at_once():  # there is no study before its last write, so it may be cut short anywhere
                    _new(opened, prepared, request, queue, start or _warm_start(request, studies, name, prepared), emit)
            return opened, space

        bodies = _bodies(prepared, device, interrupts)
        return conduct(Work(studies, name, shown, open_study, keep, device, bodies, prepared), interrupts, emit)


def check_folder(studies: Path) -> None:
    """Raise `UsageError` for a folder of studies that is a file."""
    if studies.exists() and not studies.is_dir():
        raise UsageError("not a folder", place="--studies", value=str(studies))


@dataclass(frozen=True)
class Work:
    """What is to be conducted in the study `name`, whose database a person knows as `shown`.

    `open_study` makes or resumes the study, and gives it with the space that it goes on in; `bodies` are the
    conductor's arguments that say how a trial trains.
    """

    studies: Studies
    name: str
    shown: Path
    open_study: Callable[[BatchedStorage], tuple[OpenStudy, SearchSpace]]
    keep: Keep
    device: torch.device
    bodies: Mapping[str, Any]
    prepared: Prepared


def conduct(work: Work, interrupts: Interrupts, emit: Emit) -> StudyEnded:
    """Own the study, open it, and run it to the end of its budget; raises as `search` does."""
    name = work.name
    with explained(work.shown), Lease(work.studies.lock(name), name) as lease, interrupts.at_safe_points():
        storage = work.studies.storage(name)
        storage.while_waiting = interrupts.check
        storage.wait()
        with interrupts.at_once():  # it may have to watch for a while
            lease.claim(storage.engine, lambda sentence: emit(Note(sentence, "warning")))
        storage.fence = lease.renew
        opened, space = work.open_study(storage)
        drop_drafts(opened.files)
        for warning in work.prepared.probe.warnings if work.prepared.probe else ():
            emit(Note(warning, "warning"))
        _announce(opened, space, str(work.device), emit)
        conductor = Conductor(opened, space, emit, interrupts, work.keep, **work.bodies, check=lease.check)
        try:
            return conductor.run()
        except InterruptedRunError as error:
            raise InterruptedRunError(error.signal_number, f"{_kept(conductor, work.shown)}. Go on with:") from None


def _kept(conductor: Conductor, database: Path) -> str:
    """What an interrupted search leaves, in words."""
    counted, flying = conductor.score.counted, len([flight for flight in conductor.flying if flight.recorded])
    kept = f"{counted} {'trial is' if counted == 1 else 'trials are'} kept in {database}"
    return f"{kept}, and the epochs of {flying} in flight" if flying else kept


def _queue(request: SearchRequest, space: SearchSpace) -> list[tuple[dict[str, Any], str]]:
    """What is tried before anything is sampled: the default recipe, unless the sampler is grid, and `--enqueue`."""
    queue: list[tuple[dict[str, Any], str]] = []
    if space.function is None and space.sampler != "grid" and space.parameters:
        queue.append((space.default_values()[0], DEFAULT_RECIPE))
    if request.enqueue is not None:
        if space.function is not None:
            raise UsageError("an objective function suggests its own values", place="--enqueue")
        entries = check_enqueued(space, read_yaml(request.enqueue), str(request.enqueue))
        queue += [(values, request.enqueue.name) for values in entries]
    return queue


def _new(
    opened: OpenStudy,
    prepared: Prepared,
    request: SearchRequest,
    queue: list[tuple[dict[str, Any], str]],
    start: WarmStart | None,
    emit: Emit,
) -> None:
    """Make the study that was created, with its queue and what it takes over."""
    make(opened, prepared.space, request.target, queue, start, Keep.parse(request.keep))
    for note in notes_of_making(prepared.space, start, torch.get_num_threads()):
        emit(note)


def _resume(
    opened: OpenStudy,
    prepared: Prepared,
    request: SearchRequest,
    queue: list[tuple[dict[str, Any], str]],
    emit: Emit,
) -> None:
    """Check that the study is the one asked for (contract C11), and take up what is newly queued."""
    space, threads = prepared.space, torch.get_num_threads()
    check_same_start(opened.study, request.warm_start)
    for line in check_unchanged(opened.study, space, prepared.hash, threads, request.accept_changes):
        emit(Note(f"accepted change: {line}", "warning"))
    for line in version_changes(opened.study, threads):
        emit(
            Note(
                f"the study was made elsewhere: {line}; results may differ in the last bits",
                "warning",
            )
        )
    if request.enqueue is not None:
        known = [trial.system_attrs.get("fixed_params") for trial in opened.study.get_trials(deepcopy=False)]
        for values, origin in queue:
            if origin != DEFAULT_RECIPE and encoded(space, values) not in known:
                enqueue(opened.study, space, values, origin)


def _warm_start(request: SearchRequest, studies: Studies, name: str, prepared: Prepared) -> WarmStart | None:
    """What `--warm-start` has for this search, if it is given."""
    if request.warm_start is None:
        return None
    return read_earlier(request.warm_start, studies, studies.database(name), prepared.space, prepared.hash)


def _announce(opened: OpenStudy, space: SearchSpace, device: str, emit: Emit) -> None:
    score = score_of(opened.study, space.maximize)
    emit(
        StudyOpened(
            study=opened.study.study_name,
            task=space.task,
            mode=space.mode,
            metric=space.metric,
            direction=space.direction,
            trials=space.budget.trials,
            counted=score.counted,
            resumed=opened.existed,
            device=device,
            best_value=score.best_value,
            best_trial=score.best_trial,
            in_flight=len(opened.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))),
        )
    )


def _bodies(prepared: Prepared, device: Any, interrupts: Interrupts) -> dict[str, Any]:
    """How the conductor starts a trial."""
    space = prepared.space
    if space.function is not None:
        function = function_in(load_file(Path(space.task)), space.function, Path(space.task))
        return {"start_objective": lambda trial: ObjectiveRun(function, trial)}
    assert prepared.task is not None and prepared.probe is not None
    trainer = Trainer(prepared.task, goal_of(space), prepared.probe.terms, device)

    return {"engine": Local(trainer, space, interrupts)}


def quiet_optuna() -> None:
    """Leave speaking to us: Optuna logs warnings only."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
