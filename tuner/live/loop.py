"""Live: the knobs of a training loop of one's own, turned on a page, from Python, or by an earlier session."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tuner.errors import UsageError
from tuner.live.controls import Control, Value, control_of
from tuner.live.desk import Press
from tuner.live.folder import SessionFolder
from tuner.live.pictures import as_array
from tuner.live.session import Hooks, Session
from tuner.live.watching import Change, Nobody, Watcher
from tuner.training.turned import Snapshot
from tuner.turns import Turns

if TYPE_CHECKING:
    import torch

    from tuner.live.link import Link

LEARNING_RATES = ("learning_rate", "lr")
"""Controls that are the optimizer's rate."""


class LoopBody:
    """A loop's model and optimizer (either may be missing) as what a session turns.

    Numbers that the optimizer has by a control's name are written into it where they are turned; all else is for the
    loop to read.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer | None,
        model: torch.nn.Module | None,
        wanted: frozenset[int] = frozenset(),
    ) -> None:
        self.optimizer, self.model = optimizer, model
        self.turns = Turns()
        self.steps_done, self.stopped = 0, False
        self.snapshots: dict[int, Snapshot] = {}
        self.wanted, self.settings = wanted, dict[str, str]()
        self._settled, self._fired = -1, 0
        self._rates = [float(group["lr"]) for group in optimizer.param_groups] if optimizer else []
        self._first = self._state()

    def start_of(self, name: str) -> float | None:
        """What the optimizer has by the name of a control; None where it has no such number."""
        if self.optimizer is None:
            return None
        if name in LEARNING_RATES:
            return self._rates[0]
        from tuner.optimizers.options import option_of

        try:
            return option_of(self.optimizer, name)
        except (TypeError, ValueError):  # an option that is no number
            return None

    def check(self, name: str, value: str) -> None:
        """A loop of one's own takes any setting."""

    def options_of(self, optimizer: str) -> Mapping[str, float]:
        """A loop of one's own switches no optimizers."""
        return {}

    def moving(self) -> dict[str, float]:
        """Nothing is moved but by turning."""
        return {}

    def withdraw(self) -> str:
        """Nothing is refused."""
        raise AssertionError

    def begin_step(self) -> None:
        """Take the snapshot that a record needs of this step, before anything of the step is turned."""
        if self._settled != self.steps_done:
            self._settled, self._fired = self.steps_done, 0
            if self.steps_done in self.wanted:
                self.take_snapshot()

    def settle(self) -> None:
        """Write what was turned at the next step into the optimizer, begin anew, or go back."""
        self.begin_step()
        due = self.turns.actions_at(self.steps_done)
        for action in due[self._fired :]:
            self._fire(action)
        self._fired = len(due)
        for name, keys in self.turns.values.items():
            at, value = keys[-1]
            if at == self.steps_done and (at > 0 or value != self.start_of(name)):
                self._write(name, value)

    def _fire(self, action: str) -> None:
        if action == "stop":
            self.stopped = True
        elif action == "reset":
            self._load(self._first)
            for name, value in self.turns.at(self.steps_done).items():
                self._write(name, value)
        elif action.startswith("restore="):
            found = self.snapshots[int(action.partition("=")[2])]
            self._load(found.state)
            self.settings = dict(found.settings)
        elif "=" in action:
            name, _, text = action.partition("=")
            self.settings[name] = text

    def _write(self, name: str, value: float) -> None:
        if self.optimizer is None:
            return
        from tuner.optimizers.options import has_option, set_number, set_option

        if name in LEARNING_RATES:
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                set_number(group, "lr", value * (rate / self._rates[0] if self._rates[0] else 1.0))
        elif has_option(self.optimizer, name):
            set_option(self.optimizer, name, value)

    def take_snapshot(self) -> Snapshot:
        """Keep model and optimizer as they are."""
        found = Snapshot(self.steps_done, dict(self.settings), self.turns.at(self.steps_done - 1), self._state())
        self.snapshots[found.step] = found
        return found

    def is_sound(self, step: int) -> bool:
        """Whether the snapshot of a step holds finite weights only."""
        from tuner.training.states import all_finite

        return all_finite(self.snapshots[step].state.get("model"))

    def _state(self) -> dict[str, Any]:
        if self.model is None and self.optimizer is None:
            return {}
        from tuner.training.states import model_state, snapshot

        model = {} if self.model is None else model_state(self.model)
        return {"model": model, "optimizer": {} if self.optimizer is None else snapshot(self.optimizer.state_dict())}

    def _load(self, state: Mapping[str, Any]) -> None:
        from tuner.training.states import restore_model, restore_optimizer

        if self.model is not None:
            restore_model(self.model, state["model"], next(self.model.parameters()).device)
        if self.optimizer is not None:
            self.optimizer.state.clear()
            restore_optimizer(self.optimizer, state["optimizer"])


class Live:
    """Turn the knobs of a training loop while it runs.

        controls = {"loss": ["mse", "l1"], "learning_rate": (1e-5, 1e-1, "log")}
        with Live("my run", optimizer=optimizer, controls=controls) as live:
            while live.step():              # False when stop is pressed
                loss = train_one_step(live["loss"])
                live.log(loss=loss, image=prediction)
                live.end_step()

    `controls` are, by name, what `tuner.live.controls.control_of` takes. A number that the `optimizer` has by that name
    (`learning_rate`, `weight_decay`, `momentum`, `beta2`, ...) is written into it before the very next step; everything
    else is read by `live[name]`. With `model`, the page can reset both to how they were at first, save checkpoints, and
    go back to the last good one where the loss became NaN.

    `page=False` runs without a page: controls are turned by `turn` and the like, or, with `replay`, as the session in
    that folder turned them. The page listens on `host` and `port` (None: 8090, or a free one where that is taken); on
    another address than this machine's own it asks for a token. What is turned is recorded in a folder below `folder`,
    None to record nothing.

    Raises `UsageError` for controls that cannot be, and where NiceGUI is missing.
    """

    def __init__(
        self,
        name: str,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        model: torch.nn.Module | None = None,
        controls: Mapping[str, object] | None = None,
        page: bool = True,
        host: str = "127.0.0.1",
        port: int | None = None,
        folder: str | Path | None = "studies",
        replay: str | Path | None = None,
    ) -> None:
        self.name = name
        self._recorded = None if replay is None else SessionFolder.existing(Path(replay), "replay").turns()
        self._body = LoopBody(optimizer, model, _restored_steps(self._recorded))
        self._controls = [control_of(key, given, self._body.start_of(key)) for key, given in (controls or {}).items()]
        self._buttons = (
            "pause",
            "go_on",
            "single_step",
            "undo",
            "stop",
            *(("reset", "save", "restore") if model else ()),
        )
        self._page, self._host, self._port = page, host, port
        self._folder = None if folder is None else SessionFolder.free(Path(folder), _file_name(name))
        self._logged: dict[str, Any] = {}
        self._pictures: dict[str, Any] = {}
        self._link: Link | None = None
        self._session: Session | None = None

    def __enter__(self) -> Live:
        watcher: Watcher = Nobody()
        if self._page:
            from tuner.live.link import Link

            watcher = self._link = Link(self._title, self._controls, self._buttons, self._host, self._port)
            print(f"{self.name}: {self._link.url}", file=sys.stderr)
        hooks = Hooks(preview=self._preview, save=self._save if self._body.model is not None else None)
        self._session = Session(self._body, self._controls, self._buttons, self._folder, watcher, hooks, self._page)
        if self._link is not None:
            self._link.desk = self._session.desk
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._body.stopped:
                self._body.turns.act(self._body.steps_done, "stop")
            if self._folder is not None:
                self._folder.write_turns(self._body.turns)
            if error is None:
                self.session.publish(preview=True)
        finally:
            if self._link is not None:
                self._link.close("ended" if error is None else f"ended by {type(error).__name__}: {error}")

    @property
    def session(self) -> Session:
        """The session, within the `with` block."""
        if self._session is None:
            raise UsageError("is used as `with Live(...) as live:`", place="Live")
        return self._session

    @property
    def url(self) -> str | None:
        """The page's address; None without a page."""
        return None if self._link is None else self._link.url

    @property
    def _title(self) -> str:
        return self.name if self._folder is None else self._folder.path.name

    @property
    def folder(self) -> Path | None:
        """The folder of the record."""
        return None if self._folder is None else self._folder.path

    @property
    def steps_done(self) -> int:
        """Steps of the session."""
        return self._body.steps_done

    @property
    def changes(self) -> list[Change]:
        """What was turned so far."""
        return list(self.session.changes)

    def __getitem__(self, name: str) -> Value:
        """What a control stands at."""
        return self.session.values[name]

    def step(self) -> bool:
        """Let what was turned take effect, and wait while paused; False when it is time to stop."""
        if self._recorded is not None:
            self._turn_as_recorded(self._recorded)
        return self.session.step()

    def log(self, **values: Any) -> None:
        """Values of this step: numbers (or scalar tensors) are drawn as curves, pictures are shown, side by side.

        A `loss` that is not finite pauses the session.
        """
        for name, value in values.items():
            if getattr(value, "ndim", 0) >= 2 or hasattr(value, "convert"):
                self._pictures[name] = value
            elif isinstance(value, (int, float)) or getattr(value, "ndim", None) == 0:
                self._logged[name] = value.detach() if hasattr(value, "detach") else value
            else:
                raise UsageError("is neither a number nor a picture", place=f"log: {name}", value=value)

    def end_step(self) -> None:
        """The step is over."""
        self._body.steps_done += 1
        self.session.end_step(self._logged)
        self._logged = {}

    def turn(self, name: str, value: Value) -> None:
        """Turn a control; it takes effect at the next step. Raises `UsageError` for a value that it does not take."""
        self.session.desk.turn(name, value)

    def pause(self) -> None:
        """Let `step` wait until `go_on`, which another thread or the page has to call."""
        self.session.desk.press("pause")

    def go_on(self) -> None:
        """End a pause."""
        self.session.desk.press("go_on")

    def undo(self) -> None:
        """Turn the control that was turned last back."""
        self.session.desk.press("undo")

    def reset(self) -> None:
        """Begin anew at the next step, with the weights and the optimizer's state of the beginning."""
        self.session.desk.press("reset")

    def restore(self) -> None:
        """Go back to the last good checkpoint."""
        self.session.desk.press("restore")

    def stop(self) -> None:
        """Let the next `step` be False."""
        self.session.desk.press("stop")

    def _preview(self) -> list[Any]:
        return [as_array(value, name) for name, value in self._pictures.items()]

    def _save(self) -> str:
        """Write the model's weights; gives the file's name."""
        from tuner.training.weights import copy_of, save_weights

        assert self._body.model is not None
        if self._folder is None:
            raise UsageError("there is no folder to save to: Live(..., folder=FOLDER)")
        name = f"checkpoint-{self.steps_done:06d}.safetensors"
        save_weights(self._folder.path / name, copy_of(self._body.model), {"step": str(self.steps_done)})
        return name

    def _turn_as_recorded(self, recorded: Turns) -> None:
        """Turn what the earlier session turned at this step, in the order in which it took effect."""
        session, step = self.session, self.steps_done
        self._body.begin_step()
        for action in recorded.actions_at(step):
            name, equals, text = action.partition("=")
            if name == "restore":
                session.good = int(text)
                session.restore()
            elif equals:
                session.turn(name, session.controls[name].read(text))
            elif action == "save":
                if self._folder is not None and session.hooks.save is not None:
                    session.press(Press("save"))
            else:
                session.act(action)
        for at, name in recorded.phases:
            if at == step:
                session.turn("phase", name)
        for name, keys in recorded.values.items():
            for at, value in keys:
                if at == step:
                    session.turn(name, session.controls[name].check(value))


def _restored_steps(recorded: Turns | None) -> frozenset[int]:
    actions = [] if recorded is None else [action for _, action in recorded.actions]
    return frozenset(int(action.partition("=")[2]) for action in actions if action.startswith("restore="))


def _file_name(name: str) -> str:
    """A name that can stand in a file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"


__all__ = ["Control", "Live"]
