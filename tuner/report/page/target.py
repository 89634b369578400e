"""Where a page can be written."""

from __future__ import annotations

from pathlib import Path

from tuner.errors import UsageError


def checked_target(path: Path) -> Path:
    """`path`, if a page can be written there; `UsageError` for a folder, or one in a folder that is not there."""
    if path.is_dir():
        raise UsageError("a page is a file, and this is a folder", place="--html", value=str(path), hint="Add a name")
    if not path.parent.is_dir():
        raise UsageError("its folder does not exist", place="--html", value=str(path), hint="Make it, or name another")
    return path
