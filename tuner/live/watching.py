"""Who watches a session, and what they are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tuner.live.controls import Value


@dataclass(frozen=True)
class Change:
    """A line of the list of changes: a control turned from `before` to `after`, or an action (both None).

    `step` is that before which it takes effect, `seconds` are since the session began.
    """

    step: int
    seconds: float
    name: str
    before: Value | None
    after: Value | None
    undoes: bool = False


class Watcher(Protocol):
    """Is told what goes on; each call returns at once. One that is `broken` is not there any more."""

    broken: bool

    def tell(self, kind: str, **content: Any) -> None:
        """Tell what must not be missed, in order."""

    def show(self, kind: str, **content: Any) -> None:
        """Show the newest of its kind; an older one that was not seen yet is forgotten."""


class Nobody:
    """Watches nothing: a session without a page."""

    broken = False

    def tell(self, kind: str, **content: Any) -> None:
        """Nothing."""

    def show(self, kind: str, **content: Any) -> None:
        """Nothing."""
