"""Session: the loop between what trains and whoever turns its knobs; it never waits for a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.errors import UsageError
from tuner.live.checkpoints import Checkpoints
from tuner.live.controls import PHASE, Control, Value
from tuner.live.desk import Desk, Press, Turn
from tuner.live.folder import SessionFolder
from tuner.live.pace import Pace
from tuner.live.showing import Showing
from tuner.live.watching import Change, Terminal, Watcher
from tuner.training.turned import Snapshot, Turned

STEPS_PER_UPDATE = "steps_per_update"
"""The control that says how many steps pass between two updates of the page."""

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
        self.checkpoints = Checkpoints(body, self.pace, self.watcher)
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
                    self._ahead = False
            self.pace.rest()
        self._single = False
        self.settle()
        return not self.body.stopped

    def _waits(self) -> bool:
        if self.watcher.broken and self.attended:
            self.attended = self.paused = False  # nobody could go on any more
        return self.paused and not self._single and not self.body.stopped

    def settle(self) -> None:
        """Let all that was turned take effect; what could be taken alone, and cannot now, is withdrawn, and told."""
        refused = False
        while True:
            try:
                self.body.settle()
                break
            except UsageError as error:
                refused, name = True, self.body.withdraw().partition("=")[0]
                self.watcher.tell("refused", text=str(error), to="", name=name)
        if refused:
            self._follow()
            self._write()

    def _do(self, action: str) -> None:
        """Take an action at the next step, at once; `UsageError`, with all as before, if it cannot be."""
        self.body.turns.act(self.steps_done, action)
        try:
            self.body.settle()
        except UsageError:
            self.body.withdraw()
            self.settle()
            raise

    def end_step(self, values: Mapping[str, Any]) -> None:
        """A step is over; `values` are its curves' points (floats or scalar tensors), `loss` among them."""
        self._showing.add(self.steps_done - 1, values)
        self.pace.step()
        loss = values.get("loss")
        at_hand = getattr(getattr(loss, "device", None), "type", "cpu") == "cpu"  # a device is not waited for
        if loss is not None and at_hand and not math.isfinite(loss):
            self.publish(preview=True)
        elif self.steps_done % self._steps_per_update == 0:
            if self.pace.may_preview():
                self._showing.show_preview(self.steps_done)
            if self.pace.may_tell():
                self.publish()
                self.checkpoints.take(turning=False)

    @property
    def _steps_per_update(self) -> int:
        value = self.values.get(STEPS_PER_UPDATE, 1)
        return 1 if isinstance(value, str) else max(1, int(value))

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
            now=self.body.now(),
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
        self.checkpoints.take(turning=True)
        beside = self.record(control, value)
        self._note(name, before, value, undoes)
        if not undoes:
            self._undos.append(_Undo(name, before, beside))
        self._write()

    def _follow(self) -> None:
        """Let the values say where settings are, and what moves by itself is now."""
        self.values |= {name: value for name, value in self.body.moving().items() if name in self.controls}
        settings, phase = self.body.settings, self.body.phase()
        for name, control in self.controls.items():
            if name == PHASE:
                self.values[name] = phase if phase in control.choices else control.value
            elif control.setting:
                self.values[name] = control.read(settings.get(name, control.written(control.value)))

    def record(self, control: Control, value: Value) -> dict[str, Value]:
        """Write a turn down, and what is turned beside it, which it gives as it was before; raises `UsageError`."""
        name, step = control.name, self.steps_done
        if name == PHASE:
            self.body.turns.set_phase(step, str(value))
        elif control.setting:
            self._do(f"{name}={control.written(value)}")
        else:
            self.body.turns.set(step, name, float(value))
        self.values[name] = value
        beside: dict[str, Value] = {}
        if name == "optimizer":
            for option, start in self.body.options_of(str(value)).items():
                if option in self.values and self.values[option] != start:
                    beside[option] = self.values[option]
                    self.record(self.controls[option], start)
        for other, needed in control.implies:
            if self.values[other] != needed:
                beside[other] = self.values[other]
                self.record(self.controls[other], needed)
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
        """Take an action before the next step: `reset`, `stop`, or one of the task's; `UsageError` if it cannot be."""
        self.checkpoints.take(turning=True)
        self._do(action)
        self._note(action)
        self._write()
        if action == "reset":
            self.checkpoints.begun_anew()
        self._ahead = True

    def undo(self) -> None:
        """Give the control that was turned last the value that it had before; the weights stay."""
        if not self._undos:
            raise UsageError("nothing was turned that could be undone")
        last = self._undos[-1]
        self.turn(last.name, last.before, undoes=True)
        self._undos.remove(last)
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
        self._do(f"restore={step}")
        self._take_values(self.body.snapshots[step])
        self._note(f"restore={step}")
        self.checkpoints.gone_back(step)
        self._undos.clear()
        self._write()
        self._ahead = True

    def _take_values(self, snapshot: Snapshot) -> None:
        """Let every number and the phase stand as they did; what nobody has turned goes on moving."""
        turns, step = self.body.turns, self.steps_done
        for name, now in turns.at(step).items():
            before = snapshot.values.get(name, now)
            if before != now:
                turns.set(step, name, before)
                self.values[name] = self.controls[name].of(before)
        phase = snapshot.phase or (str(self.controls[PHASE].value) if PHASE in self.controls else None)
        if turns.phases and phase is not None and phase != turns.phase(step):
            turns.set_phase(step, phase)
        self._follow()

    def _note(self, name: str, before: Value | None = None, after: Value | None = None, undoes: bool = False) -> None:
        change = Change(self.steps_done, self.pace.seconds, name, before, after, undoes)
        self.changes.append(change)
        self.watcher.tell("change", **vars(change))

    def _write(self) -> None:
        if self.folder is None:
            return
        try:
            self.folder.write_turns(self.body.turns)
        except OSError as error:  # what was turned has taken effect
            text = f"the record cannot be written now: {error}; it will be with the next change"
            self.watcher.tell("note", text=text, level="warning")
