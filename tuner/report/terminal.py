"""A report on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from tuner.report.groups import print_groups
from tuner.report.printing import print_section
from tuner.report.sections import sections, summary_section
from tuner.report.sections.confirmation import confirmation_section

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Analysis, Confirmation


def print_analysis(analysis: Analysis, console: Console) -> None:
    """Print the whole analysis: each section's reading in words, then its facts and tables.

    Where a comparison was asked for, it stands in place of all but the summary.
    Fits any width from about 40 columns on; reads the same without colour.
    """
    if analysis.groups is not None:
        print_section(summary_section(analysis), console)
        print_groups(analysis.groups, console)
        return
    for place, section in enumerate(sections(analysis)):
        if place:
            console.print()
        print_section(section, console)


def print_confirmation(found: Confirmation, console: Console) -> None:
    """Print what `tuner confirm` found; the same of widths and colours."""
    console.print()
    print_section(confirmation_section(found), console)
