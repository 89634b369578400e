"""Turned: what trains while it is turned; each turn takes effect right before the step at which it stands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from tuner.errors import UsageError
from tuner.training.states import all_finite
from tuner.turns import Due, Turns, restored_step

RESET, SAVE, STOP = "reset", "save", "stop"
"""Actions of a session: begin anew, write a checkpoint, end."""

WORDS = (RESET, SAVE, STOP)


@dataclass(frozen=True)
class Snapshot:
    """How all stood before a step of the session, on the CPU, sharing no memory with what trains.

    `settings`, `values` and `phase` (None: there was none) are what was turned until then, and what had moved by
    itself; `state` is the model's and the optimizer's.
    """

    step: int
    settings: dict[str, str]
    values: dict[str, float]
    phase: str | None
    state: dict[str, Any]


@dataclass(frozen=True)
class _Entry:
    """How all stood before anything of a step took effect; `whole`: with the weights."""

    whole: bool
    settings: dict[str, str]
    kept: Any


class Turned(ABC):
    """A training to which `turns` happen. Steps of the session (`steps_done`) only ever go forward.

    What is trained depends on the training and its turns alone, so that the record of a session trains to the same
    weights. `wanted` are steps whose snapshots a record needs; others are taken when a session asks for them.
    """

    def __init__(self, turns: Turns, wanted: Set[int]) -> None:
        self.turns, self.wanted = turns, wanted
        self.steps_done, self.stopped = 0, False
        self.settings: dict[str, str] = {}
        self.snapshots: dict[int, Snapshot] = {}
        self._begun, self._failing = -1, 0
        self._settled: Due | None = None
        self._entry: _Entry | None = None

    def begin_step(self) -> None:
        """Take the snapshot that a record needs of the next step, before anything of the step is turned."""
        if self._begun != self.steps_done:
            self._begun, self._settled, self._entry = self.steps_done, Due(), None
            if self.steps_done in self.wanted:
                self.take_snapshot()

    def settle(self) -> None:
        """Let what was turned at the next step take effect, actions first, in their order.

        It may be called again for the same step, once more was turned: then all begins again from how it stood before
        anything of the step took effect, as it will where the record is trained. Raises `UsageError` for an action
        that cannot be taken; after `withdraw` it may be called again.
        """
        self.begin_step()
        due = self.turns.due(self.steps_done)
        if due == self._settled:
            return
        self._enter(whole=any(_alters(action) for action in due.actions))
        self._settled = None
        for self._failing, action in enumerate(due.actions):
            self._take(action)
        self._write_values()
        self._settled = due

    def _enter(self, whole: bool) -> None:
        """Be as before anything of the step took effect; `whole`: in the weights too."""
        if self._entry is not None:
            self._put_back(self._entry.kept)
            self.settings = dict(self._entry.settings)
        if self._entry is None or (whole and not self._entry.whole):
            self._entry = _Entry(whole, dict(self.settings), self._keep(whole))

    def withdraw(self) -> str:
        """Forget the action that `settle` could not take, and give it."""
        return self.turns.withdraw(self.steps_done, self._failing)

    def _take(self, action: str) -> None:
        try:
            self._fire(action)
        except UsageError:
            raise
        except Exception as error:  # an action of a user's task, a model for which there is no memory
            raise UsageError(f"{type(error).__name__}: {error}", place=action) from error

    def _fire(self, action: str) -> None:
        name, equals, value = action.partition("=")
        step = restored_step(action)
        if action == RESET:
            self._begin_anew()
        elif step is not None:
            self._go_back(step)
        elif action == SAVE:
            self._save()
        elif action == STOP:
            self.stopped = True
        elif equals:
            self._set(name, value)
            self.settings[name] = value
        else:
            self._act(action)

    def _go_back(self, step: int) -> None:
        if step not in self.snapshots:
            raise UsageError("there is no checkpoint of this step", place="restore", value=step)
        found = self.snapshots[step]
        before, self.settings = self.settings, dict(found.settings)
        try:
            self._load(found.state)
        except BaseException:
            self.settings = before
            raise

    def take_snapshot(self) -> Snapshot:
        """Keep how all stands, before anything of the next step is turned."""
        values = self.moving() | self.turns.at(self.steps_done - 1)
        found = Snapshot(self.steps_done, dict(self.settings), values, self.phase(), self._state())
        self.snapshots[found.step] = found
        return found

    def is_sound(self, step: int) -> bool:
        """Whether the snapshot of a step holds finite weights only."""
        return all_finite(self.snapshots[step].state.get("model"))

    def options_of(self, optimizer: str) -> Mapping[str, float]:
        """The options, by control, that an optimizer has when it is switched to."""
        return {}

    def moving(self) -> dict[str, float]:
        """What moves by itself, by control, until it is turned: its values at the next step."""
        return {}

    def now(self) -> str:
        """What no control says of how it trains, in words."""
        return ""

    def phase(self) -> str | None:
        """The phase at the next step; None where there never was one."""
        return self.turns.phase(self.steps_done)

    @abstractmethod
    def _keep(self, whole: bool) -> Any:
        """How all stands; the weights only where it is to be `whole`."""

    @abstractmethod
    def _put_back(self, kept: Any) -> None:
        """Be as `_keep` found it."""

    @abstractmethod
    def _begin_anew(self) -> None:
        """Begin anew, with the settings as they are turned."""

    @abstractmethod
    def _set(self, name: str, value: str) -> None:
        """Turn a setting; raises `UsageError`, with nothing changed, for one that cannot be."""

    @abstractmethod
    def _write_values(self) -> None:
        """Write the numbers of the next step where they are read."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """All that is needed to go on from here, the model's under `model`; shares no memory with what trains."""

    @abstractmethod
    def _load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `_state`, with `settings` as they were then."""

    @abstractmethod
    def _save(self) -> None:
        """Write a checkpoint, unless that is done where it is asked for."""

    def _act(self, action: str) -> None:
        """Take an action of the task's."""
        raise UsageError("there is no such action", value=action)


def _alters(action: str) -> bool:
    """Whether an action is the task's, which may alter the weights in place."""
    return action not in WORDS and "=" not in action
