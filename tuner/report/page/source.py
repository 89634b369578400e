"""Source: what every plot is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tuner.analysis.trials import cells, is_missing
from tuner.report.page.axes import ParameterAxis, parameter_axis
from tuner.report.page.numbers import drawable
from tuner.report.page.thinning import SHOWN_STATES, Chosen, Limits, choose

if TYPE_CHECKING:
    from tuner.analysis import Analysis, ParameterImpact, StudyData


@dataclass(frozen=True)
class Source:
    """A study, its analysis, and how much of it may be shown; row n of each list is trial n."""

    data: StudyData
    analysis: Analysis
    limits: Limits

    @cached_property
    def states(self) -> list[str]:
        """What became of each trial."""
        return cells(self.data.frame, "state")

    @cached_property
    def values(self) -> list[float | None]:
        """The trials' values; None where there is none that can be drawn."""
        return [drawable(value) for value in cells(self.data.frame, "value")]

    @cached_property
    def shown(self) -> Chosen:
        """The trials that stand in the plots."""
        among = [number for number, state in enumerate(self.states) if state in SHOWN_STATES]
        limits = self.limits
        return choose(self.data, among, limits.trials, limits.best, limits.diverged, "trials")

    @cached_property
    def complete(self) -> list[int]:
        """Those of them that are complete and have a value."""
        there = {int(number) for number in self.data.complete.index}
        return [number for number in self.shown.numbers if number in there and self.values[number] is not None]

    @cached_property
    def varied(self) -> list[ParameterImpact]:
        """The parameters that were tried with several values, most important first."""
        return [entry for entry in self.analysis.impact.parameters if len(entry.levels) > 1]

    @cached_property
    def parameters(self) -> dict[str, list[Any]]:
        """The parameters' values; None where a parameter was not active, or has the value None: see `active`."""
        return {name: cells(self.data.frame, column) for name, column in self.data.columns.items()}

    def active(self, name: str, number: int) -> bool:
        """Whether a trial has this parameter."""
        return not is_missing(self.parameters[name][number])

    def axis(self, name: str) -> ParameterAxis:
        """A parameter as an axis."""
        if name not in self._axes:
            self._axes[name] = parameter_axis(self.data, name)
        return self._axes[name]

    @cached_property
    def _axes(self) -> dict[str, ParameterAxis]:
        return {}
