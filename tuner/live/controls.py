"""Control: one thing that can be turned, and what it may be turned to."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tuner.errors import UsageError, did_you_mean

Value = float | int | str | bool
"""What a control stands at."""

Scale = Literal["linear", "log", "cubic"]
"""How a slider's way is divided; `cubic` begins at 0 and is finest there."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")

TAKEN = ("step", "action", "reset", "restore", "save", "stop")
"""Words that mean something else in a record, however they are written."""

PHASE = "phase"
"""The control of the phase, which a record has a column of its own for."""

_WORD = re.compile(r"[^;=\r\n]+")


@dataclass(frozen=True)
class Control:
    """A number from `low` to `high`, one of `choices`, or on and off, which stands at `value` at first.

    `name` is a recipe's path, or what a loop of one's own calls it. `whole` numbers only; a `setting` is recorded as
    an action, `name=value`. `with_optimizers` says which optimizers have it; empty: it is always there. To turn it
    turns other controls too, those that it `implies`. `hint` is for a person to read.
    """

    name: str
    kind: Literal["number", "choice", "switch"]
    value: Value
    low: float = 0.0
    high: float = 1.0
    scale: Scale = "linear"
    whole: bool = False
    choices: tuple[str, ...] = ()
    setting: bool = False
    with_optimizers: tuple[str, ...] = ()
    implies: tuple[tuple[str, str], ...] = ()
    label: str = ""
    hint: str = ""

    @property
    def shown(self) -> str:
        """What a page calls it."""
        return self.label or self.name.rpartition(".")[2].replace("_", " ")

    def check(self, value: object) -> Value:
        """`value` as the control takes it; `UsageError` with the rule for one that it does not."""
        if self.kind == "switch":
            if not isinstance(value, bool):
                raise UsageError("is on or off: true or false", place=self.name, value=value)
            return value
        if self.kind == "choice":
            if not isinstance(value, str) or value not in self.choices:
                hint = did_you_mean(value, self.choices)
                raise UsageError("is none of its choices", place=self.name, value=value, hint=hint)
            return value
        if isinstance(value, int) and abs(value) > 2**53:
            raise UsageError("must be at most 2^53", place=self.name, value=value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UsageError("must be a finite number", place=self.name, value=value)
        if not self.low <= value <= self.high:
            raise UsageError(f"must be from {self.low:g} to {self.high:g}", place=self.name, value=value)
        if self.whole and value != int(value):
            raise UsageError("must be a whole number", place=self.name, value=value)
        return self.of(value)

    def of(self, number: float) -> Value:
        """A number as the control has it, be it in reach or not."""
        return int(number) if self.whole else float(number)

    def written(self, value: Value) -> str:
        """The value as it stands in an action."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)

    def read(self, text: str) -> Value:
        """The value of an action's text; `UsageError` for one that the control does not take."""
        if self.kind == "switch":
            return self.check({"on": True, "off": False}.get(text, text))
        if self.kind == "choice":
            return self.check(text)
        try:
            return self.check(float(text))
        except ValueError:
            raise UsageError("must be a number", place=self.name, value=text) from None


def control_of(name: str, given: object, start: float | None = None) -> Control:
    """The control that a loop of one's own says in short.

    A list of texts is a choice that stands at its first; a bool a switch; (low, high), (low, high, "log") or
    (low, high, scale, value) a number, which stands at `start` unless it says otherwise; of whole numbers only where
    it says nothing else, as (1, 64) does. Raises `UsageError`.
    """
    place = f"controls: {name}"
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in TAKEN:
        raise UsageError("a control's name is letters, digits, '_' and '.', and no word of a record", place=place)
    is_choice = isinstance(given, list) or (isinstance(given, Control) and given.kind == "choice")
    if name.lower() == PHASE and not (name == PHASE and is_choice):
        raise UsageError("'phase' is a list of choices", place=place, value=given)
    if isinstance(given, Control):
        if given.name != name:
            raise UsageError("a Control stands under its own name", place=place, value=given.name)
        return given
    if isinstance(given, bool):
        return Control(name, "switch", given, setting=True)
    if isinstance(given, list):
        texts = [str(entry) for entry in given]
        if not texts or len(set(texts)) < len(texts) or not all(_is_word(text) for text in texts):
            raise UsageError(
                "choices are different texts without ';' and '=', and no spaces around them", place=place, value=given
            )
        return Control(name, "choice", texts[0], choices=tuple(texts), setting=True)
    if isinstance(given, Sequence) and not isinstance(given, str) and 2 <= len(given) <= 4:
        return _number(name, given, start, place)
    raise UsageError("is a list of choices, True or False, or (low, high, scale)", place=place, value=given)


def _is_word(text: str) -> bool:
    """Whether a record gives a text back as it was."""
    return bool(_WORD.fullmatch(text)) and text == text.strip()


def _number(name: str, given: Sequence[Any], start: float | None, place: str) -> Control:
    low, high, *rest = given
    scale: Any = rest[0] if rest else "linear"
    if scale not in ("linear", "log", "cubic"):
        hint = did_you_mean(scale, ("linear", "log", "cubic"))
        raise UsageError("a number's third part is its scale", place=place, value=scale, hint=hint)
    if not all(isinstance(end, (int, float)) and math.isfinite(end) for end in (low, high)) or not low < high:
        raise UsageError("a number goes from a lower to a higher end", place=place, value=tuple(given))
    if scale == "log" and low <= 0:
        raise UsageError("a log scale begins above 0", place=place, value=low)
    value = rest[1] if len(rest) > 1 else start
    whole = all(isinstance(end, int) for end in (low, high)) and high - low > 1 and not isinstance(value, float)
    if value is None:
        value = low
    control = Control(name, "number", value, float(low), float(high), scale, whole)
    return Control(name, "number", control.check(value), float(low), float(high), scale, whole)


def checked(controls: Mapping[str, Control], name: object, value: object) -> Value:
    """`value` as the control `name` takes it; `UsageError` where there is no such control."""
    if not isinstance(name, str) or name not in controls:
        raise UsageError("there is no such control", value=name, hint=did_you_mean(name, controls))
    return controls[name].check(value)
