"""`tuner live`: a task's run with its knobs on a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuner.errors import InterruptedRunError, UsageError
from tuner.live.controls import Control
from tuner.live.folder import SessionFolder
from tuner.live.link import Link
from tuner.live.recipe_controls import START, controls_of, turned_recipe
from tuner.live.replay import save_now
from tuner.live.session import Hooks, Session
from tuner.live.watching import Terminal, Watcher
from tuner.objective import goal_of
from tuner.probe import Probe
from tuner.recipe import Recipe
from tuner.registry import source_hash
from tuner.report.words import plural
from tuner.resolve import resolve
from tuner.search_space import SearchSpace
from tuner.search_space.build import plain_space
from tuner.search_space.file import Target
from tuner.signals import Interrupts
from tuner.single import TrainRequest, target_of
from tuner.storage.studies import versions
from tuner.tasks import Task, load_task, task_source
from tuner.training.device import pick_device
from tuner.training.run import EpochRecord
from tuner.training.trainer import Trainer
from tuner.training.turned import WORDS
from tuner.training.turned_run import TurnedRun
from tuner.turns import NO_PHASE, Turns

BUTTONS = ("pause", "go_on", "single_step", "reset", "undo", "save", "save_recipe", "restore", "stop")


@dataclass(frozen=True)
class LiveRequest:
    """What a user asked for: a task or a recipe's file, or a trial of a study (None: the best)."""

    target: str | None = None
    study: str | None = None
    trial: int | None = None
    studies: Path = Path("studies")
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    device: str = "auto"
    host: str = "127.0.0.1"
    port: int | None = None


class LiveTraining:
    """A task in training, step by step, as a session turns it.

    `space` holds the recipe that it begins with; `run` trains; `session` is where it is turned.
    """

    def __init__(
        self,
        request: LiveRequest,
        watcher: Callable[[LiveTraining], Watcher] = lambda training: Terminal(),
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.request, self._check_stop = request, check_stop
        target = target_of(TrainRequest(request.target, request.study, request.trial, request.studies))
        space = plain_space(target, _settings(request, target), request.recipe)
        self.task: Task = load_task(space.task)
        found: tuple[SearchSpace, Probe] = resolve(space, self.task)
        self.space, self.probe = found
        _check_names(self.task, self.probe.terms)
        self.recipe: Recipe = self.space.recipe_for({})[0]
        self.trainer = Trainer(self.task, goal_of(self.space), self.probe.terms, pick_device(request.device))
        self.run = TurnedRun(self.trainer, self.recipe, Turns(), check_stop)
        self.controls: list[Control] = controls_of(self.recipe, self.task, self.probe)
        self.buttons = (
            *BUTTONS,
            *(("action",) if self.task.actions else ()),
            *(("listen",) if self.task.sound_names else ()),
        )
        self.folder = SessionFolder.claimed(request.studies, self.space.name)
        try:
            self.watcher = watcher(self)
        except BaseException:
            self.folder.release()
            raise
        try:
            self.session = self._begun()
        except BaseException as error:
            self.watcher.close(f"ended by {type(error).__name__}: {error}")
            self.folder.release()
            raise

    def _begun(self) -> Session:
        self._write_beginning()
        attended = isinstance(self.watcher, Link)
        session = Session(
            self.run,
            self.controls,
            self.buttons,
            self.folder,
            self.watcher,
            self._hooks(),
            attended,
            self.task.actions,
        )
        if isinstance(self.watcher, Link):
            self.watcher.desk = session.desk
        return session

    @property
    def title(self) -> str:
        """What the session is called."""
        return self.folder.path.name

    def _write_beginning(self) -> None:
        self.run.turns.act(0, "scheduler=none")
        self.folder.write_recipe(self.recipe.model_dump(), self.space.about())
        about = {
            "versions": versions(torch.get_num_threads()),
            "device": str(self.trainer.device),
            "task_hash": source_hash(task_source(self.task)),
        }
        self.folder.write_about(about)

    def _hooks(self) -> Hooks:
        return Hooks(
            preview=self.preview if isinstance(self.watcher, Link) else None,
            save=self.save_checkpoint,
            save_recipe=self.save_recipe,
            listen=self.listen if self.task.sound_names else None,
            while_waiting=self._check_stop,
        )

    def train(self) -> None:
        """Train until the session is stopped; then the weights are saved, whatever ended it."""
        try:
            while self.session.step():
                before = self.run.steps_done
                try:
                    records = self.run.step()
                except Exception as error:  # a user's model, or no memory for such batches
                    self._step_failed(error, is_trained=self.run.steps_done > before)
                    continue
                self.session.end_step(self.run.last)
                for record in records:
                    self._tell_epoch(record)
                self._check_stop()
        finally:
            self.end()

    def _step_failed(self, error: Exception, is_trained: bool) -> None:
        """Go on from where nothing is half done; a step that `is_trained` is over but for its epoch's validation."""
        self.run.run.renew_batches()
        if is_trained:
            self.session.end_step(self.run.last)
        self.session.step_failed(error)
        run = self.run.run
        if is_trained:
            text = "what is turned now takes effect before that validation"
        elif any(True for _ in run.model.buffers()) or isinstance(run.optimizer, torch.optim.LBFGS):
            text = "what the step had changed of the model stays"
        else:
            return
        text = f"{text}: trained again from its record, the session may differ"
        self.watcher.tell("note", text=text, level="warning")

    def _tell_epoch(self, record: EpochRecord) -> None:
        self.watcher.tell("epoch", step=self.run.steps_done, epoch=record.epoch, values=dict(record.values))

    def end(self) -> None:
        """Note in the record where it ends, and save the weights."""
        self.session.settle()
        if not self.run.turns.actions or self.run.turns.actions[-1] != (self.run.steps_done, "stop"):
            self.run.turns.act(self.run.steps_done, "stop")
        self.folder.write_turns(self.run.turns)
        save_now(self.run, self.space, self.folder.path)
        self.session.publish(preview=True)

    def preview(self) -> list[np.ndarray]:
        """What the task shows of the model as it is now: height x width x 3, uint8; empty where it shows nothing."""
        run = self.run.run
        run.model.eval()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            picture = self.task.preview(run.model, run.data)
        return [] if picture is None else [np.asarray(picture.convert("RGB"))]

    def listen(self) -> dict[str, bytes]:
        """What the task lets one hear of the model as it is now, as WAV files by name."""
        run = self.run.run
        run.model.eval()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            return self.task.sounds(run.model, run.recipe.data)

    def save_checkpoint(self) -> str:
        """Write weights and recipe as they are now into a folder of their own; gives its name."""
        name = f"checkpoint-{self.run.steps_done:06d}"
        save_now(self.run, self.space, self.folder.path / name)
        self.folder.write_recipe(self._recipe_now(), self.space.about(), f"{name}/recipe.yaml")
        return name

    def save_recipe(self) -> str:
        """Write the recipe as it is turned now; gives the file's name."""
        name = f"recipe-{self.run.steps_done:06d}.yaml"
        self.folder.write_recipe(self._recipe_now(), self.space.about(), name)
        return name

    def _recipe_now(self) -> dict[str, Any]:
        return turned_recipe(self.recipe, self.session.values, self.run.timeline_left()).model_dump()


def train_live(request: LiveRequest) -> Iterator[str]:
    """Train with a page until it is stopped; gives lines for a person. Ctrl-C ends it as the stop button does."""
    with Interrupts() as interrupts:
        with interrupts.at_once():
            training = LiveTraining(request, link_of, interrupts.check)
        assert isinstance(training.watcher, Link)
        yield f"{training.title}: {training.watcher.url}\nCtrl-C ends it."
        again = f"Train it again: tuner train {training.space.task} --timeline {training.folder.path}"
        ended = f"ended, saved in {training.folder.path}. {again}"
        try:
            training.train()
        except InterruptedRunError:
            pass
        except BaseException as error:
            ended = f"ended by {type(error).__name__}: {error}"
            raise
        finally:
            training.watcher.close(ended)
    yield f"{plural(training.run.steps_done, 'step')} trained, saved in {training.folder.path}"
    yield again


def link_of(training: LiveTraining) -> Link:
    """The page's process, which knows beside controls and buttons what there is to see."""
    return Link(
        training.title,
        training.controls,
        training.buttons,
        training.request.host,
        training.request.port,
        note=f"{training.space.task} on {training.trainer.device}",
        metric=training.space.metric,
        actions=training.task.actions,
        sounds=tuple(training.task.sound_names),
    )


def _settings(request: LiveRequest, target: Target) -> dict[str, Any]:
    """The recipe's values that are fixed: those given, and where a session begins, unless it was given a recipe."""
    given = dict(request.settings)
    is_recipe = request.study is not None or request.recipe is not None or not target.file.modes
    if is_recipe:
        return given
    start: dict[str, Any] = dict(START)
    if "optimizer" in given:
        start = {"learning_rate": None, "optimizer_kwargs": {}}
    return {key: value for key, value in start.items() if not any(path.split(".")[0] == key for path in given)} | given


def _check_names(task: Task, terms: tuple[str, ...]) -> None:
    """Raise `UsageError` for a name of the task's that a record could not say."""
    place = type(task).__name__
    taken = [name for name in task.actions if name in WORDS or set(name) & set("=;\n")]
    if taken:
        rule = "an action of the task has the name of one of a session's own, or '=' or ';' in it"
        raise UsageError(rule, place=place, value=taken[0], hint=f"A session's own: {', '.join(WORDS)}.")
    if NO_PHASE in task.phases:
        raise UsageError("a phase of the task has the name of no phase", place=place, value=NO_PHASE)
    odd = [name for name in (*terms, *task.properties) if set(name) & set(":\n")]
    if odd:
        raise UsageError("a loss term or property of the task has ':' in its name", place=place, value=odd[0])
