"""Where a timeline's file is, and which one was meant where there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tuner.errors import SearchSpaceError, did_you_mean


def find_csv(name: str, place: str, folders: Sequence[Path]) -> Path:
    """The file `name` in the first of `folders` that has it; an absolute path as it is.

    Raises `SearchSpaceError` at `place` with the nearest name, and where it was looked for.
    """
    paths = [folder / name for folder in folders]
    found = next((path for path in paths if os.path.isfile(path)), None)
    if found is not None:
        return found
    if any(os.path.isdir(path) for path in paths):
        raise SearchSpaceError("a folder, where a CSV file is needed", place=place, value=name)
    hint = near_csv(Path(name)) if os.path.isabs(name) else _near_in(name, folders)
    raise SearchSpaceError(f"there is no file {name!r}", place=place, hint=hint)


def near_csv(path: Path) -> str:
    """A hint for a missing file: its nearest neighbour."""
    return did_you_mean(path.name, (entry.name for entry in _listed(path.parent, "*.csv")))


def _near_in(name: str, folders: Sequence[Path]) -> str:
    """The nearest file of these folders and of those right within them, and which folders these are."""
    beside = os.path.dirname(name)
    near = [os.path.join(beside, entry.name) for folder in folders for entry in _listed(folder / beside, "*.csv")]
    for folder in folders:
        near += [
            entry.relative_to(folder).as_posix() for entry in (*_listed(folder, "*.csv"), *_listed(folder, "*/*.csv"))
        ]
    looked = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    return f"Looked in {looked}. {did_you_mean(name, near)}".strip()


def _listed(folder: Path, pattern: str) -> Iterator[Path]:
    return folder.glob(pattern) if os.path.isdir(folder) else iter(())
