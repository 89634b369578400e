"""Live: the knobs of a training loop of one's own, turned on a page, from Python, or by an earlier session."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tuner.errors import UsageError, did_you_mean
from tuner.live.controls import Control, Value, control_of
from tuner.live.desk import Press
from tuner.live.folder import SessionFolder
from tuner.live.loop_body import LoopBody
from tuner.live.pictures import as_array
from tuner.live.session import Hooks, Session
from tuner.live.watching import Change, Terminal, Watcher
from tuner.turns import Turns

if TYPE_CHECKING:
    import torch

    from tuner.live.link import Link


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
        if optimizer is not None and not hasattr(optimizer, "param_groups"):
            raise UsageError("is no optimizer of torch", place="Live: optimizer", value=optimizer)
        if model is not None and not hasattr(model, "state_dict"):
            raise UsageError("is no module of torch", place="Live: model", value=model)
        self.name = name
        self._recorded = None if replay is None else SessionFolder.existing(Path(replay), "replay").turns()
        self._body = LoopBody(optimizer, model, set() if self._recorded is None else self._recorded.restored_steps())
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
        self._studies = None if folder is None else Path(folder)
        self._folder: SessionFolder | None = None
        self._logged: dict[str, Any] = {}
        self._pictures: dict[str, Any] = {}
        self._link: Link | None = None
        self._session: Session | None = None

    def __enter__(self) -> Live:
        if self._session is not None:
            raise UsageError("is entered once; make another one for another run", place="Live", value=self.name)
        if self._studies is not None:
            self._folder = SessionFolder.claimed(self._studies, _file_name(self.name))
        try:
            watcher = self._watcher()
            hooks = Hooks(preview=self._preview, save=self._save if self._body.model is not None else None)
            self._session = Session(self._body, self._controls, self._buttons, self._folder, watcher, hooks, self._page)
        except BaseException as error:
            self._give_up(error)
            raise
        if self._link is not None:
            self._link.desk = self._session.desk
        return self

    def _watcher(self) -> Watcher:
        if not self._page:
            return Terminal()
        from tuner.live.link import Link

        self._link = Link(self._title, self._controls, self._buttons, self._host, self._port)
        print(f"{self.name}: {self._link.url}", file=sys.stderr)
        return self._link

    def _give_up(self, error: BaseException) -> None:
        """Leave nothing of a session that could not begin."""
        if self._link is not None:
            self._link.close(f"ended by {type(error).__name__}: {error}")
        if self._folder is not None:
            self._folder.release()

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
            if self._folder is not None:
                self._leave(self._folder)
        finally:
            if self._link is not None:
                self._link.close("ended" if error is None else f"ended by {type(error).__name__}: {error}")

    def _leave(self, folder: SessionFolder) -> None:
        """Save the weights, and say where all is."""
        if self._body.model is not None:
            self._save_as("weights.safetensors")
        where = f"recorded in {folder.path}; again: Live(..., replay={str(folder.path)!r})"
        print(f"{self.name}: {self.steps_done} steps, {where}", file=sys.stderr)

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
        """What a control stands at; `UsageError` for no control."""
        if name not in self.session.values:
            rule = "there is no such control"
            raise UsageError(rule, place="live[...]", value=name, hint=did_you_mean(name, self.session.values))
        return self.session.values[name]

    def step(self) -> bool:
        """Let what was turned take effect, and wait while paused; False when it is time to stop.

        Raises `UsageError` where something was logged since the last one, and `end_step` was not called.
        """
        if self._logged:
            raise UsageError("the step before it was not ended: live.end_step()", place="live.step")
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
            elif hasattr(value, "detach") and value.ndim == 0 and not value.is_complex():
                self._logged[name] = value.detach()
            else:
                self._logged[name] = _number(name, value)

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
        self._needs_model("reset")
        self.session.desk.press("reset")

    def restore(self) -> None:
        """Go back to the last good checkpoint."""
        self._needs_model("restore")
        self.session.desk.press("restore")

    def stop(self) -> None:
        """Let the next `step` be False."""
        self.session.desk.press("stop")

    def _needs_model(self, name: str) -> None:
        if self._body.model is None:
            raise UsageError("needs the model: Live(..., model=model)", place=f"live.{name}")

    def _preview(self) -> list[Any]:
        return [as_array(value, name) for name, value in self._pictures.items()]

    def _save(self) -> str:
        """Write the model's weights as they are now; gives the file's name."""
        return self._save_as(f"checkpoint-{self.steps_done:06d}.safetensors")

    def _save_as(self, name: str) -> str:
        from tuner.training.weights import copy_of, save_weights

        assert self._body.model is not None
        if self._folder is None:
            raise UsageError("there is no folder to save to: Live(..., folder=FOLDER)")
        save_weights(self._folder.path / name, copy_of(self._body.model), {"step": str(self.steps_done)})
        return name

    def _turn_as_recorded(self, recorded: Turns) -> None:
        """Turn what the earlier session turned at this step, in the order in which it took effect."""
        session, step = self.session, self.steps_done
        self._body.begin_step()
        for action in recorded.actions_at(step):
            name, equals, text = action.partition("=")
            if name == "restore":
                session.restore(int(text))
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
        for name, value in recorded.due(step).numbers:
            control = session.controls[name]
            if session.values[name] != control.check(value):
                session.turn(name, control.check(value))
            else:
                session.record(control, value)  # turned to what it was, which the optimizer may not have any more


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, str) or hasattr(value, "detach"):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise UsageError("is neither a number nor a picture", place=f"log: {name}", value=value) from None


def _file_name(name: str) -> str:
    """A name that can stand in a file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"


__all__ = ["Control", "Live"]
