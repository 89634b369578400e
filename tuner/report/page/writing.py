"""The page as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tuner.files import write_atomically
from tuner.report.page.document import document
from tuner.report.page.drawing import drawn
from tuner.report.page.target import check_page
from tuner.report.sections import sections
from tuner.report.words import plural

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis, StudyData


def write_page(path: Path, data: StudyData, analysis: Analysis) -> str:
    """Write the page, whole or not at all, and say so in a line; raises `UsageError` as `check_page` does."""
    check_page(path)
    found = sections(analysis)
    plots = drawn(data, analysis)
    content = document(analysis, found, plots).encode()
    write_atomically(path, content)
    size = f"{len(content) / 1e6:.1f} MB"
    return f"{path}: {plural(len(found), 'section')}, {plural(len(plots.figures), 'plot')}, {size}"
