"""Timeline: curves, phases and actions over a run, stretched to its length."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import itemgetter
from typing import Any

from tuner.errors import SearchSpaceError, did_you_mean
from tuner.timeline.canonical import keyframes
from tuner.timeline.cells import as_number, number_in
from tuner.timeline.column import brief
from tuner.timeline.curve import Curve
from tuner.timeline.steps import LARGEST

_step_of = itemgetter(0)


@dataclass(frozen=True)
class Timeline:
    """What a run's numeric hyperparameters are at every step, and which phase it is in.

    `name` is the file's as it was given, "" for a timeline written in YAML. `steps` is the length that is stretched
    to the run's, or None where steps are taken as they are. `curves` stand by property, in column order; `phases` and
    `actions` are (step, name) in order of their steps. A run's steps count from 0 to `run_steps` - 1.
    """

    name: str
    steps: int | None
    curves: Mapping[str, Curve]
    phases: tuple[tuple[float, str], ...]
    actions: tuple[tuple[float, str], ...]

    def __hash__(self) -> int:
        return hash((self.name, self.steps, frozenset(self.curves.items()), self.phases, self.actions))

    def position(self, step: int, run_steps: int) -> float:
        """Where a run's step lies on the timeline, in the timeline's own steps."""
        return float(step) if self.steps is None else step * self.steps / run_steps

    def at(self, step: int, run_steps: int) -> dict[str, float]:
        """Every property's value at a run's step, in column order."""
        position = self.position(step, run_steps)
        return {name: curve.at(position) for name, curve in self.curves.items()}

    def phase(self, step: int, run_steps: int) -> str:
        """The phase of a run's step, "" before the first."""
        count = bisect_right(self.phases, self.position(step, run_steps), key=_step_of)
        return self.phases[count - 1][1] if count else ""

    def actions_at(self, step: int, run_steps: int) -> tuple[str, ...]:
        """The actions that fire at a run's step, in order: at the first step whose position reaches theirs.

        Where a long timeline is squeezed into few steps, what none of them reaches before the timeline ends fires at
        the last, so that every action before its end fires exactly once in a run of any length.
        """
        if not self.actions or not 0 <= step < run_steps:
            return ()
        start = bisect_right(self.actions, self.position(step - 1, run_steps), key=_step_of) if step else 0
        if self.steps is not None and step == run_steps - 1:
            end = bisect_left(self.actions, self.steps, key=_step_of)
        else:
            end = bisect_right(self.actions, self.position(step, run_steps), key=_step_of)
        return tuple(name for _, name in self.actions[start:end])

    def phase_bounds(self, run_steps: int) -> list[tuple[str, int, int]]:
        """The phases of a run as (phase, first step, step after the last), from 0 to `run_steps` without a gap.

        A phase that no step of the run falls into is left out.
        """
        starts = [("", 0), *((name, self._first_step(step, run_steps)) for step, name in self.phases), ("", run_steps)]
        bounds: list[tuple[str, int, int]] = []
        for (name, first), (_, after) in pairwise(starts):
            if bounds and bounds[-1][0] == name:
                bounds[-1] = (name, bounds[-1][1], after)
            elif first < after:
                bounds.append((name, first, after))
        return bounds

    def _first_step(self, position: float, run_steps: int) -> int:
        """The first of a run's steps that reaches a position, or `run_steps` where none does."""
        return bisect_left(range(run_steps), position, key=lambda step: self.position(step, run_steps))

    def with_keys(self, values: Mapping[str, float]) -> Timeline:
        """This timeline with keys replaced or added: `{"learning_rate@500": 0.01}`, at steps of the timeline.

        Raises `SearchSpaceError` for an unknown property, a step that is none, and a value out of its column's range.
        """
        curves = dict(self.curves)
        for target, value in values.items():
            name, step = self._key_of(target)
            keys = dict(curves[name].keys) | {step: number_in(value, brief(target), curves[name].space)}
            curves[name] = replace(curves[name], keys=tuple(sorted(keys.items())))
        return replace(self, curves=curves)

    def _key_of(self, target: str) -> tuple[str, float]:
        """The property and the step that `PROPERTY@STEP` names; a step that is not whole must have a key already."""
        name, at, text = (part.strip() for part in target.rpartition("@"))
        place = brief(target)
        if not at:
            raise SearchSpaceError("a key is written PROPERTY@STEP", place=place, hint=f"Such as {brief(text)}@0")
        if name not in self.curves:
            hint = did_you_mean(name, self.curves)
            raise SearchSpaceError(f"the timeline has no property '{brief(name)}'", place=place, hint=hint)
        step = as_number(text) if text[:1].isdigit() else None
        if step is None or step > LARGEST or not (step.is_integer() or step in dict(self.curves[name].keys)):
            raise SearchSpaceError("a key stands at a whole step from 0", place=place, value=text)
        if self.steps is not None and step > self.steps:
            raise SearchSpaceError(f"the timeline ends at step {self.steps}", place=place, value=int(step))
        return name, step

    def describe(self) -> dict[str, Any]:
        """The timeline as plain JSON values, from which `parse_timeline` makes an equal one."""
        rows = keyframes(self.curves, self.phases, self.actions)
        return {"name": self.name, "steps": self.steps, "keyframes": rows}
