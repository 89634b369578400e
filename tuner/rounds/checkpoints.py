"""Checkpoints of a study: one file a round, with the state of every trial in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tuner.rounds.flight import Flight
from tuner.training.checkpoints import CheckpointError, UnstorableError, load_checkpoint, save_checkpoint

KEPT = 2
"""So many of the newest checkpoints stay, so that one serves where the other is damaged."""


class Checkpoints:
    """The checkpoints in one folder, named by a number that grows; `warn` is told of states that cannot be stored."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self.folder, self.warn = folder, warn
        self._unstorable: set[int] = set()
        self._loaded: dict[Path, dict[int, dict[str, Any]]] = {}

    def save(self, flights: Iterable[Flight], after: str | None) -> str | None:
        """Write the states of trials in flight to a file newer than `after`; its name, or None with no state.

        A state that cannot be stored is left out: its trial would begin again.
        """
        states = {
            flight.number: flight.body.state_dict() for flight in flights if flight.number not in self._unstorable
        }
        name = f"{_number(after) + 1:08d}.safetensors"
        while states:
            try:
                save_checkpoint(self.folder / name, states)
            except UnstorableError as error:
                trial = int(error.path.partition(".")[0])
                self.warn(f"trial {trial}: {error}, so after an interruption it begins again")
                self._unstorable.add(trial)
                del states[trial]
            else:
                return name
        return None

    def states(self, trial: int, newest: str | None) -> Iterator[dict[str, Any]]:
        """The states of a trial, newest first, beginning with the checkpoint called `newest`; damaged ones left out."""
        for path in sorted(self.folder.glob("*.safetensors"), reverse=True):
            if newest is not None and path.name <= newest and trial in self._load(path):
                yield self._load(path)[trial]

    def _load(self, path: Path) -> dict[int, dict[str, Any]]:
        if path not in self._loaded:
            try:
                self._loaded[path] = load_checkpoint(path)
            except CheckpointError:
                self._loaded[path] = {}
        return self._loaded[path]

    def release(self) -> None:
        """Let go of states that were loaded."""
        self._loaded = {}

    def drop_others(self, newest: str | None, also: str | None = None) -> None:
        """Delete all but the `KEPT` last checkpoints up to `newest`, and `also`; with None all, and the folder."""
        paths = sorted(self.folder.glob("*.safetensors"), reverse=True)
        kept = [path for path in paths if newest is not None and path.name <= newest][:KEPT]
        kept += [path for path in paths if path.name == also]
        for path in set(paths) - set(kept):
            path.unlink(missing_ok=True)
        if not kept and self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _number(name: str | None) -> int:
    return 0 if name is None else int(name.partition(".")[0])
