"""All plots of a page, thinned until they fit its budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.report.page.figures import EVERY
from tuner.report.page.figures.figure import Figure
from tuner.report.page.hover import hover_texts
from tuner.report.page.source import Source
from tuner.report.page.thinning import Limits

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis, StudyData

BUDGET_BYTES = 3_000_000
"""The plots' data take no more than this, beside the plotting library."""

HALVINGS = 8


@dataclass(frozen=True)
class Drawn:
    """Plots by the title of the section that they stand in, and their data as JSON text for the page's script."""

    by_section: Mapping[str, list[Figure]]
    text: str

    @property
    def figures(self) -> list[Figure]:
        """All plots, in order."""
        return [figure for figures in self.by_section.values() for figure in figures]


def drawn(data: StudyData, analysis: Analysis, budget: int = BUDGET_BYTES) -> Drawn:
    """The plots of a study; of a large one with fewer trials each, until their data take at most `budget` bytes."""
    limits = Limits()
    for _ in range(HALVINGS):
        found = _drawn(Source(data, analysis, limits))
        if len(found.text.encode()) <= budget:
            break
        limits = limits.halved()
    return found


def _drawn(source: Source) -> Drawn:
    by_section = {title: [figure for make in makers for figure in make(source)] for title, makers in EVERY.items()}
    figures = [figure for entries in by_section.values() for figure in entries]
    content = {
        "figures": {figure.name: {"data": figure.data, "layout": figure.layout} for figure in figures},
        "trials": hover_texts(source, _numbers(figures)),
    }
    return Drawn(by_section, json_in_page(content))


def _numbers(figures: list[Figure]) -> list[int]:
    """The trials that some plot names under a point."""
    named = (trace.get("customdata", ()) for figure in figures for trace in figure.data)
    return sorted({number for numbers in named for number in numbers if number is not None})


def json_in_page(content: Any) -> str:
    """JSON that may stand in a `<script>`: no text in it can end that, or begin a comment."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    escaped = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028")
    return escaped.replace("\u2029", "\\u2029")
