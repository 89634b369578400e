"""Desk: where what is asked of a session arrives, from any thread, until the training takes it between two steps."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from tuner.errors import UsageError, did_you_mean
from tuner.live.controls import Control, Value, checked


@dataclass(frozen=True)
class Turn:
    """Turn a control to a value; `by` says who asks."""

    name: str
    value: Value
    by: str = ""


@dataclass(frozen=True)
class Press:
    """Press a button; `argument` is a step to go back to, or an action of the task."""

    button: str
    argument: str = ""
    by: str = ""


class Desk:
    """Takes wishes that can be carried out, in order, and refuses all others."""

    def __init__(self, controls: Mapping[str, Control], buttons: tuple[str, ...]) -> None:
        self.controls, self.buttons = controls, buttons
        self._waiting: deque[Turn | Press] = deque()
        self._arrived = threading.Condition()

    def turn(self, name: object, value: object, by: str = "") -> None:
        """Ask for a control's value; `UsageError` for no control, or none of its values."""
        found = checked(self.controls, name, value)
        self._put(Turn(str(name), found, by))

    def press(self, button: object, argument: object = "", by: str = "") -> None:
        """Ask for what a button does; `UsageError` for no button."""
        if not isinstance(button, str) or button not in self.buttons:
            raise UsageError("there is no such button", value=button, hint=did_you_mean(button, self.buttons))
        if not isinstance(argument, str):
            raise UsageError("must be text", place=button, value=argument)
        self._put(Press(button, argument, by))

    def _put(self, wish: Turn | Press) -> None:
        with self._arrived:
            self._waiting.append(wish)
            self._arrived.notify_all()

    def take(self) -> list[Turn | Press]:
        """All that was asked since the last time."""
        if not self._waiting:  # no lock for the step that has nothing to do
            return []
        with self._arrived:
            found = list(self._waiting)
            self._waiting.clear()
            return found

    def wait(self, seconds: float) -> None:
        """Wait until something is asked, or so long."""
        with self._arrived:
            self._arrived.wait_for(lambda: bool(self._waiting), seconds)
