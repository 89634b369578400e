"""Checkpoints of a study: one file a round, with the state of every trial in flight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tuner.flight import Flight
from tuner.training.checkpoints import CheckpointError, load_checkpoint, save_checkpoint, storable

KEPT = 2
"""So many of the newest checkpoints stay, so that one serves where the other is damaged."""


class Checkpoints:
    """The checkpoints in one folder, named by a number that grows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unstorable: dict[int, str] = {}
        self._states: dict[Path, dict[int, dict[str, Any]]] = {}

    def save(self, flights: Iterable[Flight], after: str | None) -> str | None:
        """Write the states of trials in flight to a file newer than `after`; its name, or None with no state.

        A state that cannot be stored is left out and noted in `unstorable`: its trial restarts instead.
        """
        states = {}
        for flight in flights:
            state = flight.body.state_dict()
            culprit = storable(state)
            if culprit is None:
                states[flight.number] = state
            else:
                self.unstorable[flight.number] = culprit
        if not states:
            return None
        name = f"{_number(after) + 1:08d}.safetensors"
        save_checkpoint(self.folder / name, states)
        return name

    def states(self, number: int, newest: str | None) -> Iterator[dict[str, Any]]:
        """The states of a trial, newest first, beginning with the checkpoint called `newest`; damaged ones left out."""
        for path in sorted(self.folder.glob("*.safetensors"), reverse=True):
            if newest is not None and path.name <= newest:
                state = self._load(path).get(number)
                if state is not None:
                    yield state

    def _load(self, path: Path) -> dict[int, dict[str, Any]]:
        if path not in self._states:
            try:
                self._states[path] = load_checkpoint(path)
            except CheckpointError:
                self._states[path] = {}
        return self._states[path]

    def release(self) -> None:
        """Let go of states that were loaded."""
        self._states = {}

    def drop_others(self, newest: str | None) -> None:
        """Delete all but the `KEPT` last checkpoints up to `newest`; with None, all of them and the folder."""
        paths = sorted(self.folder.glob("*.safetensors"), reverse=True)
        kept = [path for path in paths if newest is not None and path.name <= newest][:KEPT]
        for path in paths:
            if path not in kept:
                path.unlink(missing_ok=True)
        if not kept and self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _number(name: str | None) -> int:
    return 0 if name is None else int(name.partition(".")[0])
