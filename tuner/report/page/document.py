"""The whole page: one text with its style, its script and the plotting library in it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from tuner.report.page.drawing import Drawn
from tuner.report.page.figures.figure import Figure
from tuner.report.page.library import plotting_library
from tuner.report.page.markup import anchor, section_markup
from tuner.report.sections import Section
from tuner.report.words import printable

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis


def document(analysis: Analysis, sections: Sequence[Section], plots: Drawn) -> str:
    """The page as HTML, complete in itself."""
    homes = figures_of(sections, plots)
    links = "".join(f'<a href="#{anchor(section)}">{escape(_heading(section))}</a>' for section in sections)
    return Template(_asset("page.html")).substitute(
        title=escape(printable(analysis.name)),
        subtitle=escape(printable(f"{analysis.metric}, {analysis.direction}")),
        links=links,
        sections="\n".join(section_markup(section, homes[place]) for place, section in enumerate(sections)),
        style=_asset("style.css"),
        script=_asset("script.js"),
        figures=plots.text,
        library=plotting_library() if plots.figures else "",
    )


def _heading(section: Section) -> str:
    return section.title.partition(" (")[0]


def figures_of(sections: Sequence[Section], plots: Drawn) -> list[list[Figure]]:
    """Each section's plots; those of a section that does not apply to the study stand in the first."""
    homes: list[list[Figure]] = [[] for _ in sections]
    for title, figures in plots.by_section.items():
        place = next((place for place, section in enumerate(sections) if section.title.startswith(title)), 0)
        homes[place] += figures
    return homes


def _asset(name: str) -> str:
    return (files("tuner.report.page") / "assets" / name).read_text(encoding="utf-8")
