"""Session: the loop between what trains and whoever turns its knobs; it never waits for a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuner.errors import UsageError
from tuner.live.checkpoints import Checkpoints
from tuner.live.controls import Control, Value
from tuner.live.desk import Desk, Press, Turn
from tuner.live.folder import SessionFolder
from tuner.live.pace import Pace
from tuner.live.showing import Showing
from tuner.live.watching import Change, Terminal, Watcher
from tuner.training.turned import Snapshot, Turned

STEPS_PER_UPDATE = "steps_per_update"
"""The control that says how many steps pass between two updates of the page."""

PHASE = "phase"
"""The control of the phase."""

WAIT_SECONDS = 0.2


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
        body: Turned,
        controls: Sequence[Control],
        buttons: tuple[str, ...],
        folder: SessionFolder | None = None,
        watcher: Watcher | None = None,
        hooks: Hooks | None = None,
        attended: bool = True,
        actions: tuple[str, ...] = (),
    ) -> None:
        self.body, self.folder, self.attended, self.actions = body, folder, attended, actions
        self.hooks = hooks or Hooks()
        self.watcher: Watcher = watcher or Terminal()
        self.controls = {control.name: control for control in controls}
        self.desk = Desk(self.controls, buttons)
        self.values: dict[str, Value] = {name: control.value for name, control in self.controls.items()}
        self.changes: list[Change] = []
        self.pace, self.paused = Pace(), False
        self.checkpoints = Checkpoints(body, self.pace)
        self._showing = Showing(self.watcher, self.pace, self.hooks.preview)
        self._single, self._ahead = False, False
        self._undos: list[_Undo] = []
        moving = body.moving()
        for name, control in self.controls.items():
            if control.kind == "number" and not control.setting and name not in moving:
                body.turns.set(0, name, float(control.value))
        self._write()

    @property
    def steps_done(self) -> int:
        """Steps of the session."""
        return self.body.steps_done

    # -- step by step ---------------------------------------------------------------------------------------------

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
        """Let what was turned take effect; what cannot be taken after all is withdrawn, and told."""
        self._ahead = False
        while True:
            try:
                self.body.settle()
                return
            except UsageError as error:  # what could not be told when it was asked
                self._forget(self.body.withdraw(), str(error))

    def _forget(self, action: str, why: str) -> None:
        """Let all be as if an action had not been asked for."""
        name = action.partition("=")[0]
        for number, change in reversed(list(enumerate(self.changes))):
            if change.step == self.steps_done and self._says(change) == action:
                del self.changes[number]
                self.watcher.tell("withdrawn", number=number)
                if change.before is not None and self._says(change, self.values.get(name)) == action:
                    self.values[name] = change.before
                self._forget_undo(name, change)
                break
        self.watcher.tell("refused", text=why, to="", name=name)
        self._write()

    def _forget_undo(self, name: str, change: Change) -> None:
        """Turn back what was turned beside a change, and let a later one go back to where it would have begun."""
        before = change.before
        if before is None:  # no turn
            return
        for number, undo in reversed(list(enumerate(self._undos))):
            if undo.name == name and undo.before == change.after:
                self._undos[number] = replace(undo, before=before)
            elif undo.name == name and undo.before == before:
                for other, value in self._undos.pop(number).beside.items():
                    self._record(self.controls[other], value)
                return

    def _says(self, change: Change, after: Value | None = None) -> str:
        """A change as an action says it; with `after`, one to that value."""
        after = change.after if after is None else after
        return change.name if after is None else f"{change.name}={self.controls[change.name].written(after)}"

    def end_step(self, values: Mapping[str, Any]) -> None:
        """A step is over; `values` are its curves' points (floats or scalar tensors), `loss` among them."""
        self._showing.add(self.steps_done - 1, values)
        self.pace.step()
        loss = values.get("loss")
        at_hand = getattr(getattr(loss, "device", None), "type", "cpu") == "cpu"  # a device is not waited for
        if loss is not None and at_hand and not math.isfinite(loss):
            self.publish(preview=True)
        elif self.steps_done % max(1, int(self.values.get(STEPS_PER_UPDATE, 1))) == 0 and self.pace.may_tell():
            self.publish(preview=self.pace.may_preview())
            self.checkpoints.take(turning=False)

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
        rows = self._showing.tell_rows()
        if rows and self.checkpoints.judge(rows):
            self.paused = self.attended
            text = f"the loss is not finite at step {self.checkpoints.broken_at}{': paused' if self.paused else ''}"
            self.watcher.tell("note", text=text, level="warning")
        if preview:
            self._showing.show_preview(self.steps_done)
        self._tell_state()

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
            broken_at=self.checkpoints.broken_at,
            good=self.checkpoints.good,
            can_undo=bool(self._undos),
        )

    # -- what is asked --------------------------------------------------------------------------------------------

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
        self.checkpoints.take(turning=True)
        beside = self._record(control, value)
        self._note(name, before, value, undoes)
        if not undoes:
            self._undos.append(_Undo(name, before, beside))
        self._write()

    def _follow(self) -> None:
        """Let the values say where what moves by itself is now."""
        self.values |= {name: value for name, value in self.body.moving().items() if name in self.controls}
        phase = self.body.phase()
        if PHASE in self.controls and phase in self.controls[PHASE].choices:
            self.values[PHASE] = phase

    def _record(self, control: Control, value: Value) -> dict[str, Value]:
        """Write a turn down, and what is turned beside it, which it gives as it was before."""
        name, step = control.name, self.steps_done
        self.values[name] = value
        beside: dict[str, Value] = {}
        if name == PHASE:
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
            self.paused = button == "pause"
            self.checkpoints.mended()
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
            self.restore(self.checkpoints.good)
        elif button == "save":
            self.save()
        elif button == "save_recipe" and self.hooks.save_recipe is not None:
            self.watcher.tell("note", text=f"recipe saved as {self.hooks.save_recipe()}", level="info")
        elif button == "listen" and self.hooks.listen is not None:
            self.watcher.tell("sounds", sounds=dict(self.hooks.listen()), play=press.argument, to=press.by)

    def act(self, action: str) -> None:
        """Take an action before the next step: `reset`, `stop`, or one of the task's."""
        self.checkpoints.take(turning=True)
        self.body.turns.act(self.steps_done, action)
        self._note(action)
        self._write()
        if action == "reset":
            self.checkpoints.mended()
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

    def restore(self, step: int) -> None:
        """Go back to a checkpoint in memory, with the values of then; `UsageError` where there is none."""
        if step not in self.body.snapshots:
            raise UsageError("there is no good checkpoint yet")
        self._take_values(self.body.snapshots[step])
        self.body.turns.act(self.steps_done, f"restore={step}")
        self._note(f"restore={step}")
        self.checkpoints.gone_back(step)
        self._undos.clear()
        self._write()
        self._settle_ahead()

    def _take_values(self, snapshot: Snapshot) -> None:
        """Let every control stand as it did; what moves by itself, and was not turned, goes on moving."""
        turns, step = self.body.turns, self.steps_done
        for name, control in self.controls.items():
            if name == PHASE:
                if turns.phases:
                    self.values[name] = control.value if snapshot.phase is None else snapshot.phase
                    turns.set_phase(step, str(self.values[name]))
            elif control.setting:
                self.values[name] = control.read(snapshot.settings.get(name, control.written(control.value)))
            elif name in turns.values and name in snapshot.values:
                self.values[name] = control.check(snapshot.values[name])
                turns.set(step, name, snapshot.values[name])

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
