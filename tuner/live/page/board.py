"""Board: what the page's process knows of the session, for every browser that looks."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tuner.live.controls import Control
from tuner.live.page.access import Holder
from tuner.live.page.effects import Effects
from tuner.live.page.history import History
from tuner.live.pictures import side_by_side
from tuner.live.watching import Change

NOTES_KEPT = 50

ORDINARY = ("state", "rows", "epoch", "frame")
"""What is told all the time, and is drawn when there is time for it."""


@dataclass(frozen=True)
class Note:
    """Something that a person should read; `to` is the one browser that it is for, "" for all."""

    number: int
    text: str
    level: str
    to: str = ""


@dataclass(frozen=True)
class Play:
    """A sound that one browser asked to hear."""

    number: int
    name: str
    to: str


class Board:
    """The newest of everything. `ask` sends a wish to the training; browsers wait for `news`.

    `urgent` counts what a person waits for; `holder` knows the browsers that are there.
    """

    def __init__(self, about: Mapping[str, Any], ask: Callable[[dict[str, Any]], None]) -> None:
        self.title: str = about["title"]
        self.note: str = about.get("note", "")
        self.metric: str = about.get("metric", "")
        self.controls = [Control(**_tuples(entry)) for entry in about["controls"]]
        self.buttons: frozenset[str] = frozenset(about["buttons"])
        self.actions: tuple[str, ...] = tuple(about.get("actions", ()))
        self.sound_names: tuple[str, ...] = tuple(about.get("sounds", ()))
        self.ask = ask
        self.state: dict[str, Any] = {"values": {control.name: control.value for control in self.controls}}
        self.history, self.changes, self.effects = History(), list[Change](), Effects()
        self.notes: list[Note] = []
        self.play: Play | None = None
        self.sounds: dict[str, bytes] = {}
        self.refused: dict[str, int] = {}
        self.holder = Holder()
        self.ended = ""
        self.urgent = 0
        self.frame_number, self.frame_step = 0, 0
        self._pictures: list[Any] = []
        self._encoded: tuple[bytes, int] = (b"", 0)
        self._waiting: set[asyncio.Event] = set()

    def take(self, messages: list[dict[str, Any]]) -> None:
        """Take what the training says, and wake whoever waits for it."""
        for message in messages:
            content = dict(message)
            kind = content.pop("kind")
            if kind not in ORDINARY or (kind == "state" and self._answers(content)):
                self.urgent += 1
            getattr(self, f"_take_{kind}")(**content)
        self.wake()

    def _answers(self, state: dict[str, Any]) -> bool:
        """Whether a state says what a person has brought about, and not only how far the training is."""
        return any(self.state.get(key) != state.get(key) for key in ("values", "paused", "stopped", "can_undo"))

    def look(self) -> None:
        """Let every browser look again at once."""
        self.urgent += 1
        self.wake()

    def wake(self) -> None:
        """Let every browser look again."""
        for event in self._waiting:
            event.set()

    async def news(self, seconds: float) -> None:
        """Wait until something is new, or so long."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return
        finally:
            self._waiting.discard(event)

    def say(self, text: str, level: str = "info", to: str = "") -> None:
        """Have a note shown."""
        number = self.notes[-1].number + 1 if self.notes else 1
        self.notes = [*self.notes[-NOTES_KEPT:], Note(number, text, level, to)]

    def frame(self) -> tuple[bytes, int]:
        """The newest picture as PNG, encoded when it is first asked for, and its number; empty without one."""
        number, pictures = self.frame_number, self._pictures
        if self._encoded[1] != number:
            self._encoded = _png(side_by_side(pictures)), number
        return self._encoded

    def _take_state(self, **state: Any) -> None:
        self.state = state

    def _take_rows(self, rows: list[tuple[int, dict[str, float]]]) -> None:
        for step, values in rows:
            self.history.add(step, values)
            self.effects.add_row((step, values))

    def _take_epoch(self, step: int, epoch: int, values: dict[str, float]) -> None:
        self.history.add_epoch(step, values)

    def _take_change(self, **change: Any) -> None:
        self.changes.append(Change(**change))
        self.effects.add_change(self.changes[-1])

    def _take_frame(self, pictures: list[Any], step: int) -> None:
        self._pictures, self.frame_step = pictures, step
        self.frame_number += 1

    def _take_note(self, text: str, level: str) -> None:
        self.say(text, level)

    def _take_refused(self, text: str, to: str, name: str) -> None:
        self.refused[name] = self.refused.get(name, 0) + 1  # the control shows again what it stands at
        self.say(text, "warning", to)

    def _take_sounds(self, sounds: dict[str, bytes], play: str, to: str) -> None:
        self.sounds = sounds
        self.play = Play(self.play.number + 1 if self.play else 1, play, to)

    def _take_ended(self, text: str) -> None:
        self.ended = text


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


def _png(picture: Any) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG", compress_level=1)
    return content.getvalue()
