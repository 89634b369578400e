"""Session: the loop between what trains and whoever turns its knobs; it never waits for a page."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tuner.errors import UsageError
from tuner.live.controls import Control, Value
from tuner.live.desk import Desk, Press, Turn
from tuner.live.folder import SessionFolder
from tuner.live.pace import Pace
from tuner.live.watching import Change, Nobody, Watcher
from tuner.turns import Turns

STEPS_PER_UPDATE = "steps_per_update"
"""The control that says how many steps pass between two updates of the page."""

WAIT_SECONDS = 0.2

SNAPSHOTS_KEPT = 3
"""Checkpoints in memory, the last good one aside."""


class Body(Protocol):
    """What trains, to which turns happen: `training.turned.TurnedRun`, or a loop of one's own."""

    turns: Turns
    steps_done: int
    stopped: bool
    snapshots: dict[int, Any]

    @property
    def wanted(self) -> Set[int]:
        """Steps whose snapshots a record needs."""

    def check(self, name: str, value: str) -> None:
        """Raise `UsageError` for a setting that cannot be taken; changes nothing."""

    def settle(self) -> None:
        """Let what was turned at the next step take effect; `UsageError` for a setting that cannot be taken."""

    def withdraw(self) -> str:
        """Forget the action that `settle` could not take, and give it; `settle` may then be called again."""

    def take_snapshot(self) -> Any:
        """Keep how all stands, before anything of the next step is turned: its `step`, `settings` and `values`."""

    def moving(self) -> Mapping[str, float]:
        """What moves by itself, by control, until it is turned."""

    def is_sound(self, step: int) -> bool:
        """Whether the snapshot of a step holds finite weights only."""

    def options_of(self, optimizer: str) -> Mapping[str, float]:
        """The options, by control, that an optimizer has when it is switched to."""


@dataclass(frozen=True)
class Hooks:
    """What is done for a session outside of training: pictures (arrays), files (each gives its name), sounds (WAV).

    `while_waiting` is called several times a second during a pause, and may raise to end the session.
    """

    preview: Callable[[], list[Any]] | None = None
    save: Callable[[], str] | None = None
    save_recipe: Callable[[], str] | None = None
    listen: Callable[[], Mapping[str, bytes]] | None = None
    while_waiting: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class _Undo:
    """What an undo turns back: a control, and what was turned beside it."""

    name: str
    before: Value
    beside: Mapping[str, Value]


class Session:
    """Training step by step while its knobs are turned.

        while session.step():           # takes what was asked, waits while paused; False when stopped
            ...train one step...
            session.end_step(values)

    `values` holds what each control stands at. What is turned stands in the body's `turns`, and in the folder, before
    the step that it takes effect at; all of a step takes effect at once, right before the step, as it will when the
    record is trained again. Where nobody is there to go on (not `attended`), a loss that is not finite does not pause.
    """

    def __init__(
        self,
        body: Body,
        controls: Sequence[Control],
        buttons: tuple[str, ...],
        folder: SessionFolder | None = None,
        watcher: Watcher | None = None,
        hooks: Hooks | None = None,
        attended: bool = True,
        actions: tuple[str, ...] = (),
    ) -> None:
        self.actions = actions
        self.body, self.folder, self.hooks, self.attended = body, folder, hooks or Hooks(), attended
        self.watcher: Watcher = watcher or Nobody()
        self.controls = {control.name: control for control in controls}
        self.desk = Desk(self.controls, buttons)
        self.values: dict[str, Value] = {name: control.value for name, control in self.controls.items()}
        self.changes: list[Change] = []
        self.paused, self.broken_at, self.good = False, -1, -1
        self.pace = Pace()
        self._single, self._ahead = False, False
        self._undos: list[_Undo] = []
        self._rows: list[tuple[int, Mapping[str, Any]]] = []
        moving = body.moving()
        for name, control in self.controls.items():
            if control.kind == "number" and not control.setting and name not in moving:
                body.turns.set(0, name, float(control.value))
        self._write()

    @property
    def steps_done(self) -> int:
        """Steps of the session."""
        return self.body.steps_done

    def step(self) -> bool:
        """Take what was asked, and wait while the session is paused; False once it is stopped."""
        self._take()
        if self._waits():
            self.publish(preview=True)
            while self._waits():
                self.desk.wait(WAIT_SECONDS)
                self.hooks.while_waiting()
                if self._take():
                    self.publish(preview=self._ahead)
            self.pace.rest()
        self._single = False
        self.settle()
        return not self.body.stopped

    def _waits(self) -> bool:
        if self.watcher.broken and self.attended:
            self.attended = self.paused = False  # nobody could go on any more
        return self.paused and not self._single and not self.body.stopped

    def settle(self) -> None:
        """Let what was turned take effect; what the run cannot take after all is withdrawn."""
        self._ahead = False
        try:
            self.body.settle()
        except UsageError as error:  # what could not be told when it was asked
            name = self.body.withdraw().partition("=")[0]
            before = next((change.before for change in reversed(self.changes) if change.name == name), None)
            if before is not None:
                self.values[name] = before
            self.watcher.tell("refused", text=str(error), to="", name=name)
            self._write()
            self.settle()

    def _take(self) -> bool:
        """Do what was asked since the last time; gives whether that was anything."""
        wishes = self.desk.take()
        for wish in wishes:
            try:
                if isinstance(wish, Turn):
                    self.turn(wish.name, wish.value)
                else:
                    self.press(wish)
            except Exception as error:  # a disk that is full, a task's sounds that fail: nothing is worth a run
                self.watcher.tell("refused", text=str(error), to=wish.by, name=getattr(wish, "name", ""))
        if wishes:
            self._tell_state()
        return bool(wishes)

    def turn(self, name: str, value: Value, undoes: bool = False) -> None:
        """Turn a control before the next step; `UsageError` for what the run cannot take, which changes nothing."""
        self._follow()
        control, before = self.controls[name], self.values[name]
        if before == value:
            return
        if control.setting:
            self.body.check(name, control.written(value))
        self._snapshot(turning=True)
        beside = self._record(control, value)
        self._note(name, before, value, undoes)
        if not undoes:
            self._undos.append(_Undo(name, before, beside))
        self._write()

    def _follow(self) -> None:
        """Let the values say where what moves by itself is now."""
        self.values |= {name: value for name, value in self.body.moving().items() if name in self.controls}

    def _record(self, control: Control, value: Value) -> dict[str, Value]:
        """Write a turn down, and what is turned beside it, which it gives as it was before."""
        name, step = control.name, self.steps_done
        self.values[name] = value
        beside: dict[str, Value] = {}
        if name == "phase":
            self.body.turns.set_phase(step, str(value))
        elif control.setting:
            self.body.turns.act(step, f"{name}={control.written(value)}")
        else:
            self.body.turns.set(step, name, float(value))
        if name == "optimizer":
            for option, start in self.body.options_of(str(value)).items():
                if option in self.values and self.values[option] != start:
                    beside[option] = self.values[option]
                    self._record(self.controls[option], start)
        for other, needed in control.implies:
            if self.values[other] != needed:
                beside[other] = self.values[other]
                self._record(self.controls[other], needed)
        return beside

    def press(self, press: Press) -> None:
        """Do what a button does; `UsageError` where that cannot be."""
        button = press.button
        if button in ("pause", "go_on"):
            self.paused, self.broken_at = button == "pause", -1
        elif button == "single_step":
            self.paused = self._single = True
        elif button in ("reset", "stop"):
            self.act(button)
        elif button == "action":
            if press.argument not in self.actions:
                raise UsageError("there is no such action", value=press.argument)
            self.act(press.argument)
        elif button == "undo":
            self.undo()
        elif button == "restore":
            self.restore()
        elif button == "save":
            self.save()
        elif button == "save_recipe" and self.hooks.save_recipe is not None:
            self.watcher.tell("note", text=f"recipe saved as {self.hooks.save_recipe()}", level="info")
        elif button == "listen" and self.hooks.listen is not None:
            self.watcher.tell("sounds", sounds=dict(self.hooks.listen()), play=press.argument, to=press.by)

    def act(self, action: str) -> None:
        """Take an action before the next step: `reset`, `stop`, or one of the task's."""
        self._snapshot(turning=True)
        self.body.turns.act(self.steps_done, action)
        self._note(action)
        self._write()
        if action == "reset":
            self.broken_at = self.good = -1
            self.body.snapshots.clear()  # of a run that is over
            self._settle_ahead()
        elif action == "stop":
            self.body.stopped = True

    def undo(self) -> None:
        """Give the control that was turned last the value that it had before; the weights stay."""
        if not self._undos:
            raise UsageError("nothing was turned that could be undone")
        last = self._undos.pop()
        self.turn(last.name, last.before, undoes=True)
        for name, value in last.beside.items():
            self.turn(name, value, undoes=True)

    def save(self) -> None:
        """Write a checkpoint of the weights as they are, which the record says too."""
        if self.hooks.save is None:
            raise UsageError("there is nothing to save")
        self.watcher.tell("note", text=f"checkpoint saved as {self.hooks.save()}", level="info")
        self.body.turns.act(self.steps_done, "save")
        self._note("save")
        self._write()

    def restore(self) -> None:
        """Go back to the last good checkpoint, with the values of then; `UsageError` where there is none."""
        if self.good not in self.body.snapshots:
            raise UsageError("there is no good checkpoint yet")
        snapshot = self.body.snapshots[self.good]
        for name, control in self.controls.items():
            if control.setting:
                self.values[name] = control.read(snapshot.settings.get(name, control.written(control.value)))
            elif name in snapshot.values:
                self.body.turns.set(self.steps_done, name, snapshot.values[name])
                self.values[name] = control.check(snapshot.values[name])
        self.body.turns.act(self.steps_done, f"restore={self.good}")
        self._note(f"restore={self.good}")
        for later in [step for step in self.body.snapshots if step > self.good]:
            del self.body.snapshots[later]
        self._undos.clear()
        self.broken_at = -1
        self._write()
        self._settle_ahead()

    def _settle_ahead(self) -> None:
        """Show at once what begins anew, though the session be paused; what is turned beside it can still follow."""
        if self.paused:
            self.settle()
            self._ahead = True

    def _note(self, name: str, before: Value | None = None, after: Value | None = None, undoes: bool = False) -> None:
        change = Change(self.steps_done, self.pace.seconds, name, before, after, undoes)
        self.changes.append(change)
        self.watcher.tell("change", **vars(change))

    def _write(self) -> None:
        if self.folder is not None:
            self.folder.write_turns(self.body.turns)

    def end_step(self, values: Mapping[str, Any]) -> None:
        """A step is over; `values` are its curves' points (floats or scalar tensors), `loss` among them."""
        self._rows.append((self.steps_done - 1, values))
        self.pace.step()
        loss = values.get("loss")
        if loss is not None and not getattr(loss, "is_cuda", False) and not math.isfinite(loss):
            self.publish(preview=True)
        elif self.steps_done % max(1, int(self.values.get(STEPS_PER_UPDATE, 1))) == 0 and self.pace.may_tell():
            self.publish(preview=self.pace.may_preview())
            self._snapshot(turning=False)

    def step_failed(self, error: Exception) -> None:
        """A step came to nothing: pause, so that what was turned can be turned back; raises it if nobody is there."""
        if not self.attended:
            raise error
        self.paused = True
        text = f"the step failed, and the run is paused: {type(error).__name__}: {error}"
        self.watcher.tell("note", text=text, level="warning")
        self._tell_state()

    def publish(self, preview: bool = False) -> None:
        """Tell what happened since the last time; a loss that is not finite pauses the session."""
        self.pace.told()
        rows = [(step, {name: float(value) for name, value in values.items()}) for step, values in self._rows]
        self._rows.clear()
        if rows:
            self.watcher.tell("rows", rows=rows)
            self._judge(rows)
        if preview and self.hooks.preview is not None:
            self._show_preview(self.hooks.preview)
        self._tell_state()

    def _show_preview(self, preview: Callable[[], list[Any]]) -> None:
        started = time.perf_counter()
        try:
            pictures = preview()
        except Exception as error:  # a picture is not worth a run
            self.hooks = replace(self.hooks, preview=None)
            text = f"there are no more previews: {type(error).__name__}: {error}"
            self.watcher.tell("note", text=text, level="warning")
            return
        if pictures:
            self.watcher.show("frame", pictures=pictures, step=self.steps_done)
        self.pace.previewed(started)

    def _judge(self, rows: list[tuple[int, dict[str, float]]]) -> None:
        """Whether losses are finite; a checkpoint is good once a loss that its own weights gave is.

        Where there is none such, one whose numbers are finite will do.
        """
        broken = next((step for step, values in rows if not math.isfinite(values.get("loss", 0.0))), None)
        last = rows[-1][0] if broken is None else broken - 1
        self.good = max((step for step in self.body.snapshots if step <= last), default=self.good)
        if broken is not None and self.good < 0:
            self.good = max((step for step in self.body.snapshots if self.body.is_sound(step)), default=-1)
        if broken is not None and self.broken_at < 0:
            self.paused, self.broken_at = self.attended, broken
            self.watcher.tell("note", text=f"the loss is not finite at step {broken}: paused", level="warning")

    def _tell_state(self) -> None:
        self._follow()
        self.watcher.show(
            "state",
            step=self.steps_done,
            rate=self.pace.rate,
            seconds=self.pace.seconds,
            paused=self.paused,
            stopped=self.body.stopped,
            values=dict(self.values),
            broken_at=self.broken_at,
            good=self.good,
            can_undo=bool(self._undos),
        )

    def _snapshot(self, turning: bool) -> None:
        """Keep how all stands, unless something was turned at this step already, or the loss is broken."""
        step, turns = self.steps_done, self.body.turns
        if step == 0 or self.broken_at >= 0 or turns.last_step() >= step or not self.pace.may_snapshot(turning):
            return
        started = time.perf_counter()
        self.body.take_snapshot()
        self.pace.snapshot_taken(started)
        for old in sorted(self.body.snapshots)[:-SNAPSHOTS_KEPT]:
            if old != self.good and old not in self.body.wanted:
                del self.body.snapshots[old]
