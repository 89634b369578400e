"""The sections of a report, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.report.section import Part, Section
from tuner.report.sections.advice import advice_section
from tuner.report.sections.confirmation import confirmed_section
from tuner.report.sections.ends import ends_section
from tuner.report.sections.impact import impact_section
from tuner.report.sections.interactions import interactions_section
from tuner.report.sections.overfitting import overfitting_section
from tuner.report.sections.stability import stability_section
from tuner.report.sections.summary import summary_section
from tuner.report.sections.top import top_section

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis

__all__ = ["Part", "Section", "sections", "summary_section"]

EVERY = (
    summary_section,
    top_section,
    confirmed_section,
    impact_section,
    interactions_section,
    overfitting_section,
    stability_section,
    ends_section,
    advice_section,
)


def sections(analysis: Analysis) -> list[Section]:
    """Every section that applies to a study: of a plain objective nothing is known of losses."""
    return [section for make in EVERY if (section := make(analysis)) is not None]
