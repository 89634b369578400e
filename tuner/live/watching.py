"""Who watches a session, and what they are told."""

from __future__ import annotations

import sys
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

    def close(self, words: str) -> None:
        """Tell that the session is over, and no more."""


class Terminal:
    """A session without a page: what was refused, or is worth a warning, is a line on stderr."""

    broken = False

    def tell(self, kind: str, **content: Any) -> None:
        """Print what went wrong."""
        if kind == "refused" or content.get("level") == "warning":
            print(f"warning: {content['text']}", file=sys.stderr)

    def show(self, kind: str, **content: Any) -> None:
        """Nothing."""

    def close(self, words: str) -> None:
        """Nothing."""
