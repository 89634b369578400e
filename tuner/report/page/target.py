"""Where a page can be written."""

from __future__ import annotations

from pathlib import Path

from tuner.errors import UsageError

MADE_BY = "tuner"
"""What a page names as its generator."""


def checked_target(path: Path) -> Path:
    """`path`, if a page can be written there, be it over an older page of ours.

    `UsageError` for a folder, a place in a folder that is not there, and a file that is something else.
    """
    if path == Path("-"):
        raise UsageError("takes a file's name; a page is not printed", place="--html", value="-")
    if path.is_dir():
        raise UsageError("a page is a file, and this is a folder", place="--html", value=str(path), hint="Add a name")
    if not path.parent.is_dir():
        raise UsageError("its folder does not exist", place="--html", value=str(path), hint="Make it, or name another")
    if path.exists() and not _is_page(path):
        hint = "Give another name, or move it away"
        raise UsageError(
            "the file is there already, and is no page of tuner", place="--html", value=str(path), hint=hint
        )
    return path


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return f'<meta name="generator" content="{MADE_BY}">'.encode() in file.read(1000)
