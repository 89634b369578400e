"""Turns: what was turned by hand over a run, and when; as a timeline it is trained again."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Set
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, NamedTuple

from tuner.knobs import Knobs
from tuner.timeline import Curve, Timeline

NO_PHASE = "none"
"""The phase that is none, which a timeline could not say by an empty cell."""

_RESTORE = re.compile(r"restore=([0-9]+)")
_step_of = itemgetter(0)


def restored_step(action: str) -> int | None:
    """The step to whose beginning an action goes back; None for any other action."""
    found = _RESTORE.fullmatch(action)
    return None if found is None else int(found[1])


class Due(NamedTuple):
    """What is turned at one step: actions in their order, numbers by recipe path, and a phase."""

    actions: tuple[str, ...] = ()
    numbers: tuple[tuple[str, float], ...] = ()
    phase: str | None = None


@dataclass
class Turns:
    """Numbers by recipe path, phases and actions, each with the step (from 0) before which it was turned.

    A number holds until it is turned again; before its first turn it is whatever the recipe says. An action is a word
    (`reset`), or a setting that is no number, `optimizer=SGD`. Steps count over the whole session and never go back.
    """

    values: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    phases: list[tuple[int, str]] = field(default_factory=list)
    actions: list[tuple[int, str]] = field(default_factory=list)

    def set(self, step: int, path: str, value: float) -> None:
        """Turn a number; what was turned at the same step before is forgotten."""
        keys = self.values.setdefault(path, [])
        if keys and keys[-1][0] == step:
            keys.pop()
        keys.append((step, float(value)))

    def set_phase(self, step: int, name: str) -> None:
        """Begin a phase; one that was begun at the same step is forgotten."""
        if self.phases and self.phases[-1][0] == step:
            self.phases.pop()
        self.phases.append((step, name))

    def act(self, step: int, action: str) -> None:
        """Take an action, behind those that were taken at the same step."""
        self.actions.append((step, action))

    def at(self, step: int) -> dict[str, float]:
        """The numbers turned so far, by path, as they are at a step."""
        found = {path: _last(keys, step) for path, keys in self.values.items()}
        return {path: value for path, value in found.items() if value is not None}

    def phase(self, step: int) -> str | None:
        """The phase at a step; None where none was ever turned."""
        count = bisect_right(self.phases, step, key=_step_of)
        return self.phases[count - 1][1] if count else None

    def due(self, step: int) -> Due:
        """All that is turned at a step."""
        if self.last_step() < step:
            return Due()
        numbers = tuple((path, value) for path, keys in self.values.items() for at, value in keys if at == step)
        phase = next((name for at, name in self.phases if at == step), None)
        return Due(tuple(self.actions_at(step)), numbers, phase)

    def actions_at(self, step: int) -> list[str]:
        """The actions before a step, in order."""
        return [name for at, name in self.actions if at == step]

    def settings(self) -> dict[str, str]:
        """The settings as they are in the end; to go back to a step gives those back that were set before it."""
        now: dict[str, str] = {}
        been: list[tuple[int, dict[str, str]]] = []
        for step, action in self.actions:
            name, equals, value = action.partition("=")
            back = restored_step(action)
            if back is not None:
                now = next((found for at, found in reversed(been) if at < back), {})
            elif equals:
                now = now | {name: value}
            been.append((step, now))
        return now

    def withdraw(self, step: int, number: int) -> str:
        """Forget one of the actions before a step, by its number from 0, and give it."""
        places = [place for place, (at, _) in enumerate(self.actions) if at == step]
        return self.actions.pop(places[number])[1]

    def restored_steps(self) -> Set[int]:
        """The steps that are gone back to."""
        return {step for _, action in self.actions if (step := restored_step(action)) is not None}

    def last_step(self) -> int:
        """The last step at which anything was turned; -1 where nothing was."""
        ends = [keys[-1][0] for keys in self.values.values()]
        ends += [taken[-1][0] for taken in (self.phases, self.actions) if taken]
        return max(ends, default=-1)

    def timeline(self) -> Timeline:
        """All of it as a timeline of steps as they are; `of` gives equal turns back."""
        curves = {path: Curve("linear", "step", tuple(_as_keys(keys))) for path, keys in self.values.items()}
        phases = tuple((float(step), name) for step, name in self.phases)
        return Timeline("", None, curves, phases, tuple((float(step), name) for step, name in self.actions))

    @classmethod
    def of(cls, timeline: Timeline) -> Turns:
        """The turns that a timeline of whole steps says; its properties are recipe paths."""
        return cls(
            {path: [(int(step), value) for step, value in curve.keys] for path, curve in timeline.curves.items()},
            [(int(step), name) for step, name in timeline.phases],
            [(int(step), name) for step, name in timeline.actions],
        )


@dataclass(frozen=True)
class TurnedKnobs(Knobs):
    """The knobs of a run that began at a session's step `start`: those of its recipe, and over them what was turned."""

    turns: Turns = field(default_factory=Turns)
    start: int = 0

    @classmethod
    def over(cls, base: Knobs, turns: Turns, start: int) -> TurnedKnobs:
        """Turns over the knobs of a recipe."""
        return cls(base.run_steps, base.timeline, base.paths, turns, start)

    def at(self, step: int) -> dict[str, float]:
        """The scheduled and turned values at a step of the run, by recipe path."""
        return super().at(step) | self.turns.at(self.start + step)

    def moving(self, step: int) -> dict[str, float]:
        """The scheduled values at a step of the run that nobody has turned yet."""
        turned = self.turns.at(self.start + step)
        return {path: value for path, value in super().at(step).items() if path not in turned}

    def left(self) -> dict[str, Any] | None:
        """The recipe's timeline without what was turned, written out; None where there is nothing of it."""
        if self.timeline is None:
            return None
        curves = {
            name: curve for name, curve in self.timeline.curves.items() if self.paths[name] not in self.turns.values
        }
        phases = () if self.turns.phases else self.timeline.phases
        left = replace(self.timeline, curves=curves, phases=phases)
        return left.describe() if curves or phases or left.actions else None

    def phase(self, step: int) -> str:
        """The phase that was turned to, or else the timeline's."""
        turned = self.turns.phase(self.start + step)
        return super().phase(step) if turned is None else "" if turned == NO_PHASE else turned


def _last(keys: list[tuple[int, float]], step: int) -> float | None:
    count = bisect_right(keys, step, key=_step_of)
    return keys[count - 1][1] if count else None


def _as_keys(keys: list[tuple[int, float]]) -> Iterator[tuple[float, float]]:
    return ((float(step), value) for step, value in keys)
