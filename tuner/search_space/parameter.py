"""One searched value: choices, a range of floats, or a range of ints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from tuner.errors import SearchSpaceError, did_you_mean

KEYS = ("choices", "low", "high", "log", "step", "type", "when")
TYPES = ("float", "int", "categorical")


class Suggests(Protocol):
    """What a search space needs of an Optuna trial."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Parameter:
    """A searched recipe path; `when` maps other paths to the values under which this one is searched."""

    path: str
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def suggest(self, trial: Suggests) -> Any:
        """Ask `trial` for a value, in the recipe's own terms."""
        raise NotImplementedError

    def decode(self, stored: Any) -> Any:
        """The recipe's value for what Optuna stored."""
        return stored

    def encode(self, value: Any) -> Any:
        """What Optuna stores for the recipe's value; the inverse of `decode`."""
        return value

    def values(self) -> Sequence[Any] | None:
        """Every value in order, or None where there are infinitely many."""
        raise NotImplementedError

    def contains(self, value: Any) -> bool:
        """Whether the parameter can take `value`."""
        raise NotImplementedError

    def nearest(self, value: Any) -> Any:
        """The value of this parameter that is nearest to `value` (the first choice if it is none)."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """The parameter as it would stand in a search space."""
        raise NotImplementedError

    def _conditions(self) -> dict[str, Any]:
        return {"when": {path: list(allowed) for path, allowed in self.when.items()}} if self.when else {}


@dataclass(frozen=True)
class Choices(Parameter):
    """One of a list of values. Lists and mappings are stored in Optuna by their index."""

    choices: tuple[Any, ...] = ()

    @property
    def by_index(self) -> bool:
        """Whether Optuna stores the index: it takes only None, bool, int, float and str itself."""
        return any(not isinstance(entry, (type(None), bool, int, float, str)) for entry in self.choices)

    def suggest(self, trial: Suggests) -> Any:
        """See `Parameter.suggest`."""
        options = range(len(self.choices)) if self.by_index else self.choices
        return self.decode(trial.suggest_categorical(self.path, list(options)))

    def decode(self, stored: Any) -> Any:
        """See `Parameter.decode`."""
        return self.choices[stored] if self.by_index else stored

    def encode(self, value: Any) -> Any:
        """See `Parameter.encode`."""
        return self.choices.index(value) if self.by_index else value

    def values(self) -> list[Any]:
        """See `Parameter.values`."""
        return list(self.choices)

    def contains(self, value: Any) -> bool:
        """See `Parameter.contains`."""
        return value in self.choices

    def nearest(self, value: Any) -> Any:
        """See `Parameter.nearest`."""
        if value in self.choices:
            return self.choices[self.choices.index(value)]
        numbers = [entry for entry in self.choices if is_number(entry)]
        if is_number(value) and numbers:
            return min(numbers, key=lambda entry: abs(entry - value))
        return self.choices[0]

    def describe(self) -> dict[str, Any]:
        """See `Parameter.describe`."""
        return {"choices": list(self.choices), **self._conditions()}


class Steps(Sequence[float]):
    """The values `low`, `low + step`, ... up to `high`, in decimal: 0.1 + 2 * 0.1 is 0.3. Takes no memory."""

    def __init__(self, low: float, high: float, step: float) -> None:
        self._low, self._step = Decimal(str(low)), Decimal(str(step))
        self._count = int((Decimal(str(high)) - self._low) / self._step) + 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return float(self._low + (index % self._count) * self._step)

    def nearest(self, value: float) -> float:
        """The step nearest to `value`."""
        index = round((value - float(self._low)) / float(self._step))
        return float(self[min(max(index, 0), self._count - 1)])


@dataclass(frozen=True)
class FloatRange(Parameter):
    """A float from `low` to `high`, both included; `log` draws uniformly in the logarithm."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    step: float | None = None

    def suggest(self, trial: Suggests) -> float:
        """See `Parameter.suggest`."""
        return self.decode(trial.suggest_float(self.path, self.low, self.high, step=self.step, log=self.log))

    def decode(self, stored: Any) -> float:
        """See `Parameter.decode`; with a step, the number as a person would write it."""
        return float(stored) if self.step is None else self._steps().nearest(stored)

    def _steps(self) -> Steps:
        assert self.step is not None
        return Steps(self.low, self.high, self.step)

    def values(self) -> Sequence[Any] | None:
        """See `Parameter.values`."""
        if self.low == self.high:
            return [self.low]
        return None if self.step is None else self._steps()

    def contains(self, value: Any) -> bool:
        """See `Parameter.contains`; on a step to within rounding, as Optuna has it."""
        if not is_number(value) or not self.low <= value <= self.high:
            return False
        return self.step is None or abs(self._steps().nearest(value) - value) < 1e-8 * self.step

    def nearest(self, value: Any) -> Any:
        """See `Parameter.nearest`."""
        number = min(max(float(value), self.low), self.high) if is_number(value) else self._middle()
        return number if self.step is None else self._steps().nearest(number)

    def _middle(self) -> float:
        return math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2

    def describe(self) -> dict[str, Any]:
        """See `Parameter.describe`."""
        extra: dict[str, Any] = {"log": True} if self.log else {}
        if self.step is not None:
            extra["step"] = self.step
        return {"type": "float", "low": self.low, "high": self.high, **extra, **self._conditions()}


@dataclass(frozen=True)
class IntRange(Parameter):
    """An int from `low` to `high`, both included, in steps of `step`."""

    low: int = 0
    high: int = 1
    log: bool = False
    step: int = 1

    def suggest(self, trial: Suggests) -> int:
        """See `Parameter.suggest`."""
        return trial.suggest_int(self.path, self.low, self.high, step=self.step, log=self.log)

    def values(self) -> Sequence[Any]:
        """See `Parameter.values`."""
        return range(self.low, self.high + 1, self.step)

    def contains(self, value: Any) -> bool:
        """See `Parameter.contains`."""
        return isinstance(value, int) and is_number(value) and value in self.values()

    def nearest(self, value: Any) -> int:
        """See `Parameter.nearest`."""
        number = value if is_number(value) else (self.low + self.high) / 2
        steps = round((min(max(number, self.low), self.high) - self.low) / self.step)
        return min(self.low + steps * self.step, self.high)

    def describe(self) -> dict[str, Any]:
        """See `Parameter.describe`."""
        extra: dict[str, Any] = {"log": True} if self.log else {}
        if self.step != 1:
            extra["step"] = self.step
        return {"type": "int", "low": self.low, "high": self.high, **extra, **self._conditions()}


def ends(parameter: Parameter) -> list[tuple[str, Any]]:
    """Every choice, or both ends of a range, with the key that says it."""
    if isinstance(parameter, Choices):
        return [(f"choices[{i}]", value) for i, value in enumerate(parameter.choices)]
    description = parameter.describe()
    return [(key, description[key]) for key in ("low", "high")]


def is_number(value: object) -> bool:
    """Whether `value` is an int or a float (a bool is neither)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(number: float) -> bool:
    """Whether a number is one that a float can hold."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def parse_parameter(path: str, entry: object, kind: str | None, place: str) -> Parameter:
    """One entry under `search:`; `kind` is the type that the recipe's field asks for, if it says one.

    Raises `SearchSpaceError` for misspelt keys, empty or indistinguishable choices, and impossible ranges.
    """
    if not isinstance(entry, Mapping):
        raise SearchSpaceError(
            "a searched value is written {choices: [...]} or {low: ..., high: ...}", place=place, value=entry
        )
    for key in entry:
        if key not in KEYS:
            raise SearchSpaceError("there is no such key", place=f"{place}.{key}", hint=did_you_mean(key, KEYS))
    given = entry.get("type")
    if given is not None and given not in TYPES:
        raise SearchSpaceError(
            "the type is float, int or categorical",
            place=f"{place}.type",
            value=given,
            hint=did_you_mean(given, TYPES),
        )
    if given == "float" and kind == "int":
        raise SearchSpaceError(f"{path} is a whole number", place=f"{place}.type", value=given)
    when = _parse_when(entry.get("when"), place)
    if "choices" in entry:
        extra = next((key for key in ("low", "high", "log", "step") if key in entry), None)
        if extra:
            raise SearchSpaceError(f"choices have no '{extra}'", place=f"{place}.{extra}", value=entry[extra])
        if given in ("float", "int"):
            raise SearchSpaceError("choices are categorical", place=f"{place}.type", value=given)
        return Choices(path, when, _parse_choices(entry["choices"], f"{place}.choices"))
    return _parse_range(path, when, entry, given or kind, place)


def _parse_when(entry: object, place: str) -> dict[str, tuple[Any, ...]]:
    if entry is None:
        return {}
    if not isinstance(entry, Mapping) or not entry:
        raise SearchSpaceError(
            "is written {PARAMETER: VALUE} or {PARAMETER: [VALUE, ...]}", place=f"{place}.when", value=entry
        )
    for path, allowed in entry.items():
        if allowed == []:
            raise SearchSpaceError("needs at least one value", place=f"{place}.when.{path}", value=allowed)
    return {str(path): tuple(allowed) if isinstance(allowed, list) else (allowed,) for path, allowed in entry.items()}


def _parse_choices(entry: object, place: str) -> tuple[Any, ...]:
    if not isinstance(entry, list):
        raise SearchSpaceError("must be a list", place=place, value=entry)
    if not entry:
        raise SearchSpaceError("at least one choice is needed", place=place, value=entry)
    for position, choice in enumerate(entry):
        if isinstance(choice, float) and not math.isfinite(choice):
            raise SearchSpaceError("must be finite", place=f"{place}[{position}]", value=choice)
        if any(choice == earlier for earlier in entry[:position]):
            raise SearchSpaceError("cannot be told from an earlier choice", place=f"{place}[{position}]", value=choice)
    return tuple(entry)


def _parse_range(
    path: str, when: Mapping[str, tuple[Any, ...]], entry: Mapping[str, Any], kind: str | None, place: str
) -> Parameter:
    for key in ("low", "high"):
        if key not in entry:
            raise SearchSpaceError(f"a range needs low and high; '{key}' is missing", place=place)
        if not is_number(entry[key]):
            raise SearchSpaceError("must be a number", place=f"{place}.{key}", value=entry[key])
        if not is_finite(entry[key]):
            raise SearchSpaceError("must be finite", place=f"{place}.{key}", value=entry[key])
    low, high, step, log = entry["low"], entry["high"], entry.get("step"), entry.get("log", False)
    if not isinstance(log, bool):
        raise SearchSpaceError("is true or false", place=f"{place}.log", value=log)
    if low > high:
        raise SearchSpaceError(f"low must not be above high, which is {high!r}", place=f"{place}.low", value=low)
    if log and low <= 0:
        raise SearchSpaceError("with log: true, low must be above 0", place=f"{place}.low", value=low)
    if step is not None and (not is_number(step) or not is_finite(step) or step <= 0):
        raise SearchSpaceError("must be a number above 0", place=f"{place}.step", value=step)
    if log and step is not None:
        raise SearchSpaceError("log and step exclude each other", place=f"{place}.step", value=step)
    if kind == "categorical":
        raise SearchSpaceError(
            "takes choices, not a range", place=place, value=dict(entry), hint="Write {choices: [...]}."
        )
    if kind is None:
        kind = "int" if all(isinstance(number, int) for number in (low, high, step or 0)) else "float"
    if kind == "float":
        top = high if step is None else _last_step(low, high, step)
        return FloatRange(path, when, float(low), float(top), log, None if step is None else float(step))
    for key in ("low", "high", "step"):
        number = entry.get(key)
        if number is not None and number != int(number):
            raise SearchSpaceError(f"{path} is a whole number", place=f"{place}.{key}", value=number)
    size = int(step or 1)
    return IntRange(path, when, int(low), int(low) + (int(high) - int(low)) // size * size, log, size)


def _last_step(low: float, high: float, step: float) -> float:
    """The highest value that steps from `low` reach, in decimal: 0.1 + 2 * 0.1 is 0.3."""
    start, size = Decimal(str(low)), Decimal(str(step))
    return float(start + (Decimal(str(high)) - start) // size * size)
