"""A session trained again from its record: the same turns at the same steps, and on a CPU the same weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch

from tuner.errors import InterruptedRunError, UsageError
from tuner.events import Emit, Note
from tuner.live.controls import PHASE, Value
from tuner.live.folder import RECIPE, SessionFolder
from tuner.live.recipe_controls import controls_of, turned_recipe
from tuner.objective import goal_of
from tuner.probe import Probe
from tuner.recipe import Recipe
from tuner.registry import source_hash
from tuner.resolve import resolve
from tuner.search_space import SearchSpace, find_target
from tuner.search_space.build import plain_space
from tuner.signals import Interrupts
from tuner.single import Trained, TrainRequest, announced, free_folder, refuse_used, save_run
from tuner.storage.studies import versions
from tuner.tasks import Task, load_task, task_source
from tuner.training.device import pick_device
from tuner.training.run import EpochRecord
from tuner.training.trainer import Trainer
from tuner.training.turned import STOP
from tuner.training.turned_run import TurnedRun
from tuner.training.weights import copy_of, save_weights
from tuner.turns import Turns


class Recorded:
    """A session's record: its folder, the task and recipe that it began with, and what was turned."""

    def __init__(self, path: Path, target: str | None, place: str) -> None:
        """Raise `UsageError` where there is no session in `path`, or it is one of another task than `target`."""
        self.folder = SessionFolder.existing(path, place)
        if not (path / RECIPE).is_file():
            rule = "a session of a loop of one's own has no recipe"
            raise UsageError(
                rule, place=place, value=str(path), hint="Its script trains it again: Live(..., replay=...)."
            )
        space = plain_space(find_target(str(path / RECIPE)))
        if target is not None and _task_of(target) != _task_of(space.task):
            raise UsageError(f"the session is of task {space.task}", place=place, value=target)
        self.task: Task = load_task(space.task)
        found: tuple[SearchSpace, Probe] = resolve(space, self.task)
        self.space, self.probe = found
        self.recipe: Recipe = self.space.recipe_for({})[0]
        self.turns: Turns = self.folder.turns()
        self.end = next((step for step, action in self.turns.actions if action == STOP), None)

    def values(self, trained: TurnedRun | None = None) -> dict[str, Value]:
        """What each control stands at when the session ends; what moves by itself is known when it is `trained`."""
        found: dict[str, Value] = {}
        last = self.turns.last_step()
        numbers, settings, phase = self.turns.at(last), self.turns.settings(), self.turns.phase(last)
        if trained is not None:
            numbers, phase = trained.moving() | numbers, trained.phase()
        for control in controls_of(self.recipe, self.task, self.probe):
            found[control.name] = control.value
            if control.name == PHASE:
                found[PHASE] = phase if phase in control.choices else control.value
            elif control.name in numbers:
                found[control.name] = control.of(numbers[control.name])
            elif control.setting and control.name in settings:
                found[control.name] = control.read(settings[control.name])
        return found

    def changed(self, device: torch.device) -> list[str]:
        """What of versions, machine and the task's file is not as it was, a line each."""
        about = self.folder.about()
        stored, now = about.get("versions", {}), versions(torch.get_num_threads())
        lines = [f"{name} {stored[name]} -> {now[name]}" for name in now if stored.get(name, now[name]) != now[name]]
        if about.get("device", str(device)) != str(device):
            lines.append(f"device {about['device']} -> {device}")
        if about.get("task_hash", source_hash(task_source(self.task))) != source_hash(task_source(self.task)):
            lines.append("the task's source file has changed")
        return lines


def _task_of(target: str) -> str:
    """A task by its name, or by the whole path of its file."""
    task = find_target(target).task if target.endswith((".yaml", ".yml", ".py")) else target
    return str(Path(task).resolve()) if task.endswith(".py") else task


def replay(session: Path, request: TrainRequest, emit: Emit) -> Trained:
    """Train a session again, and save what it leaves: the weights of its last step, recipe, epochs and series.

    Raises `UsageError` before anything is written.
    """
    if request.settings or request.recipe or request.study or request.record_preview:
        rule = "a session is trained again as it was; leave --set, --data, --recipe, --from and --record-preview out"
        raise UsageError(rule, place="--timeline", value=str(session))
    with Interrupts() as interrupts, interrupts.at_once():
        recorded = Recorded(session, request.target, "--timeline")
        space = recorded.space
        folder = request.out or free_folder(request.studies, f"{space.name}-train")
        refuse_used(folder)
        device = pick_device(request.device)
        for line in recorded.changed(device):
            emit(Note(f"the session was trained elsewhere: {line}; results may differ", "warning"))
        trainer = Trainer(recorded.task, goal_of(space), recorded.probe.terms, device)
        turned = TurnedRun(
            trainer, recorded.recipe, recorded.turns, interrupts.check, lambda: _save_weights(turned, folder, space)
        )
        steps = _steps(recorded, turned)
        epochs = max(recorded.recipe.epochs, steps // turned.run.steps_per_epoch)
        if recorded.end is None:
            emit(Note(f"the session's end is not on record: it is trained for {steps} steps", "warning"))
        emit(Note(f"training {space.task} again for {steps} steps, as {session} did, on {trainer.device}"))
        with interrupts.at_safe_points():
            try:
                for record in _train(turned, steps):
                    announced(record, space, epochs, emit)
            except InterruptedRunError as error:
                raise InterruptedRunError(error.signal_number, "Nothing was saved. Again with:") from None
            recipe = turned_recipe(recorded.recipe, recorded.values(turned), turned.timeline_left())
            save_run(folder, turned.run, space, recipe=recipe)
            save_now(turned, space, folder)
        value = turned.run.records[-1].values.get(space.metric) if turned.run.records else None
        return Trained(folder, space.metric, value, f"{turned.steps_done} steps trained", turned.run.epochs_done, None)


def _steps(recorded: Recorded, turned: TurnedRun) -> int:
    """Steps until the session was stopped; of one that was not, those of its recipe's epochs, and to its last turn."""
    if recorded.end is not None:
        return recorded.end
    return max(turned.run.steps_per_epoch * recorded.recipe.epochs, recorded.turns.last_step() + 1)


def _train(turned: TurnedRun, steps: int) -> Iterator[EpochRecord]:
    while turned.steps_done < steps:
        yield from turned.step()
    turned.settle()


def _save_weights(turned: TurnedRun, folder: Path, space: SearchSpace) -> None:
    save_now(turned, space, folder / f"checkpoint-{turned.steps_done:06d}")


def save_now(turned: TurnedRun, space: SearchSpace, folder: Path) -> None:
    """Write the weights as they are now; equal weights make equal files."""
    about = {**space.about(), "step": turned.steps_done}
    save_weights(folder / "weights.safetensors", copy_of(turned.run.model), {"about": json.dumps(about)})
