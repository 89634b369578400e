"""Whether a report can be written to the file that a user named, before a large study is read for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tuner.errors import UsageError

GIVE_ANOTHER = "Give another name."


def never(path: Path) -> bool:
    """That no file is overwritten."""
    return False


def check_target(
    path: Path,
    option: str,
    replaces: Callable[[Path], bool] = never,
    taken: str = "the file is there already",
    hint: str = GIVE_ANOTHER,
) -> None:
    """Raise `UsageError` where `path`, given to `option`, is no name for a file, in no folder, or that of a file.

    `replaces` says which files may be overwritten; of others it is said that they are `taken`, and what to do (`hint`).
    """
    if path == Path("-"):
        raise UsageError("takes a file's name; it is not printed", place=option, value="-")
    if path.is_dir():
        raise UsageError("a folder, where a file should be", place=option, value=str(path))
    if not path.parent.is_dir():
        raise UsageError("there is no such folder", place=option, value=str(path.parent))
    if path.exists() and not replaces(path):
        raise UsageError(taken, place=option, value=str(path), hint=hint)
