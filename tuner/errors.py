"""Every exception a user can meet.

    TunerError                    exit code 1: something failed while running
    ├── UsageError                exit code 2: the request cannot be carried out as it stands
    │   ├── SearchSpaceError      a search space or recipe says something impossible
    │   ├── TaskError             a task's file cannot be used
    │   ├── StudyNotFoundError    no study of that name
    │   └── StudyChangedError     the study was made with other settings (contract C11)
    ├── StorageError              the database is locked, damaged, or the disk is full
    └── SearchStoppedError        the search cannot go on: all trials fail alike, nothing is feasible

    InterruptedRunError           exit code 130 or 143: stopped by a signal, resumable; like KeyboardInterrupt it is
                                  no Exception, so that no one who catches those swallows it

`DivergedError` is not among them: it ends one trial and never reaches the user.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TunerError(Exception):
    """Base of all errors meant for a person to read; `exit_code` is the process's."""

    exit_code = 1


class UsageError(TunerError, ValueError):
    """The request cannot be carried out as it stands.

    The message names the rule, the place, the value, and the nearest valid name.
    """

    exit_code = 2

    def __init__(self, rule: str, *, place: str = "", value: object = None, hint: str = "") -> None:
        self.rule, self.place, self.value, self.hint = rule, place, value, hint
        super().__init__(self._message())

    def _message(self) -> str:
        text = f"{self.place}: {self.rule}" if self.place else self.rule
        if self.value is not None:
            text += f" (got {shorten(self.value)})"
        return f"{text}. {self.hint}" if self.hint else text

    def at(self, place: str) -> UsageError:
        """The same error, with `place` put before the place it already names."""
        joined = f"{place}: {self.place}" if self.place else place
        return type(self)(self.rule, place=joined, value=self.value, hint=self.hint)


class SearchSpaceError(UsageError):
    """A search space or recipe says something impossible."""


class TaskError(UsageError):
    """A task's file cannot be used."""


class StudyNotFoundError(UsageError):
    """No study of that name."""


class StudyChangedError(UsageError):
    """The study was made with other settings than those asked for now."""


class StorageError(TunerError):
    """The database is locked, damaged, not a database, or the disk is full."""


class SearchStoppedError(TunerError):
    """The search cannot go on: all trials fail alike, or nothing proposed is feasible."""


class InterruptedRunError(BaseException):
    """Stopped by a signal (`signal_number`); `kept` says what of the work remains."""

    def __init__(self, signal_number: int, kept: str = "Nothing was begun. Again with:") -> None:
        super().__init__("interrupted")
        self.signal_number, self.kept = signal_number, kept
        self.exit_code = 128 + signal_number


class DivergedError(ArithmeticError):
    """A trial's loss became NaN or infinite."""


def below(place: str, path: str) -> str:
    """The place of `path` within `place`: `x.yaml: a`, `x.yaml: a.b`, `--set a`, `--a` of `--`, or `path` alone."""
    if not place or not path:
        return place or path
    if place == "--":
        return "--" + path.replace("_", "-")
    if place.startswith("--") and " " not in place:
        return f"{place} {path}"
    return f"{place}: {path}" if place.endswith((".yaml", ".yml")) else f"{place}.{path}"


def shorten(value: object, width: int = 80) -> str:
    """`repr(value)`, cut to `width` characters."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."


def did_you_mean(name: object, valid: Iterable[object]) -> str:
    """A hint that names the nearest valid name, or lists them where none is near."""
    names = sorted({str(entry) for entry in valid})
    folded = {entry.lower(): entry for entry in names}
    near = difflib.get_close_matches(str(name).lower(), list(folded), n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{folded[near[0]]}'?"
    if not names:
        return ""
    return "Valid: " + ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
