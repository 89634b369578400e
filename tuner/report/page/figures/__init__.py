"""The plots of each section, in their order. A new one is a file here, and its function in `EVERY`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tuner.report.page.figures.curves import curves
from tuner.report.page.figures.figure import Figure
from tuner.report.page.figures.gap import gap
from tuner.report.page.figures.gradients import gradients
from tuner.report.page.figures.history import history
from tuner.report.page.figures.importance import importance
from tuner.report.page.figures.pair import pair
from tuner.report.page.figures.parallel import parallel
from tuner.report.page.figures.slices import slices
from tuner.report.page.figures.states import states
from tuner.report.page.figures.timeline import timeline

if TYPE_CHECKING:
    from tuner.report.page.source import Source

Maker = Callable[["Source"], list[Figure]]

EVERY: Mapping[str, tuple[Maker, ...]] = {
    "Summary": (history,),
    "Top trials": (parallel,),
    "Impact of each parameter": (importance, slices),
    "Interactions": (pair,),
    "Overfitting": (gap,),
    "Stability": (states, gradients),
    "Early stopping and pruning": (curves, timeline),
}
"""Plots by the first words of their section's title; a plot without data makes none."""

__all__ = ["EVERY", "Figure"]
