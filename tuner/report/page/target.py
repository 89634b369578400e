"""Where a page can be written: over nothing but an older page of ours."""

from __future__ import annotations

from pathlib import Path

from tuner.report.target import check_target

MADE_BY = b'<meta name="generator" content="tuner">'
"""What a page of ours has near its beginning; see assets/page.html."""


def check_page(path: Path) -> None:
    """Raise `UsageError` where no page can be written, and for a file that is none of ours."""
    check_target(path, "--html", _is_page, "the file is there already, and is no page of tuner")


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return MADE_BY in file.read(1000)
