"""A session on disk: the recipe it began with, what was turned and when, and what it left."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuner.errors import SearchSpaceError, UsageError
from tuner.files import write_atomically
from tuner.search_space.yaml_file import dump_yaml
from tuner.timeline import read_csv, to_csv
from tuner.turns import Turns

RECIPE, TIMELINE, ABOUT = "recipe.yaml", "timeline.csv", "session.json"


@dataclass(frozen=True)
class SessionFolder:
    """`recipe.yaml`, `timeline.csv` and `session.json` of one session, each written in place at once."""

    path: Path

    @classmethod
    def claimed(cls, studies: Path, name: str) -> SessionFolder:
        """The first of `NAME-live-001`, `NAME-live-002`, ... that is not there; made at once, so that none else has it.

        Raises `UsageError` where it cannot be made.
        """
        for number in itertools.count(1):
            path = studies / f"{name}-live-{number:03d}"
            try:
                path.mkdir(parents=True)
                return cls(path)
            except FileExistsError:
                continue
            except OSError as error:
                raise UsageError(f"cannot be made: {error.strerror}", place="studies", value=str(path)) from None
        raise AssertionError

    def release(self) -> None:
        """Remove the folder again with all that is in it, and that of the studies if there is nothing else."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            self.path.parent.rmdir()

    def write_turns(self, turns: Turns) -> None:
        """Write what was turned so far."""
        write_atomically(self.path / TIMELINE, to_csv(turns.timeline()).encode())

    def write_recipe(self, recipe: Mapping[str, Any], about: Mapping[str, Any], name: str = RECIPE) -> Path:
        """Write a recipe, as a file that `tuner train` takes; gives its path."""
        path = self.path / name
        write_atomically(path, dump_yaml({**about, "recipe": dict(recipe)}).encode())
        return path

    def write_about(self, about: Mapping[str, Any]) -> None:
        """Write what the results depend on beside recipe and turns."""
        write_atomically(self.path / ABOUT, (json.dumps(dict(about), indent=1) + "\n").encode())

    def about(self) -> dict[str, Any]:
        """What `write_about` wrote; empty where it is missing or no JSON."""
        try:
            found = json.loads((self.path / ABOUT).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @classmethod
    def existing(cls, path: Path, place: str) -> SessionFolder:
        """The session in a folder; `UsageError` where there is none."""
        if not (path / TIMELINE).is_file():
            rule = "no session: it has no timeline.csv" if path.is_dir() else "there is no such session"
            raise UsageError(rule, place=place, value=str(path), hint="`tuner live` writes TASK-live-001 and so on.")
        return cls(path)

    def turns(self) -> Turns:
        """What was turned; raises `SearchSpaceError` with the place of what no session would say."""
        path = self.path / TIMELINE
        if path.read_text().count("\n") == 1:  # a heading: nothing was turned yet
            return Turns()
        timeline = read_csv(path)
        keys = [step for curve in timeline.curves.values() for step, _ in curve.keys]
        steps = [*keys, *(step for step, _ in (*timeline.phases, *timeline.actions))]
        if timeline.steps is not None or not all(step.is_integer() for step in steps):
            raise SearchSpaceError("a session's steps are whole and are never stretched", place=str(path))
        for name, curve in timeline.curves.items():
            if curve.interpolation != "step":
                raise SearchSpaceError("a session's values change at once: NAME:linear:step", place=f"{path}: {name}")
        return Turns.of(replace(timeline, name=""))
