"""What trials are compared on: each measure, a number a trial. Here are their results; steadiness.py has the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tuner.analysis.data import StudyData
from tuner.analysis.trials import cells, finite

Better = Literal["lower", "higher"]
Kind = Literal["results", "steadiness", "paths"]


@dataclass(frozen=True)
class Measure:
    """A number a trial, by trial number; `better` is None where that is not known. `also` names equal measures."""

    name: str
    kind: Kind
    better: Better | None
    values: dict[int, float]
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class PhaseMeasure:
    """A measure of steadiness within one phase of the run, a number a trial."""

    phase: str
    name: str
    values: dict[int, float]


def measure(name: str, kind: Kind, better: Better | None, values: Mapping[int, float | None]) -> Measure:
    """A measure of the trials that have a number."""
    return Measure(name, kind, better, {number: value for number, value in values.items() if value is not None})


def better_side(name: str, metric: str, maximize: bool, terms: Sequence[str] = ()) -> Better | None:
    """Whether a recorded name is better lower or higher: losses and the gap lower, the metric as the study says."""
    if name in (metric, "value"):
        return "higher" if maximize else "lower"
    return "lower" if name == "gap" or name.partition("_")[2] in ("loss", *terms) else None


def results(data: StudyData, numbers: Sequence[int], terms: Sequence[str]) -> list[Measure]:
    """The trials' values, their last epochs' validation metrics and loss terms (`terms`), and their gaps."""
    metric, kind = data.metric, str(data.space.get("value") or "")
    rows = data.frame.loc[list(numbers)]
    values = {number: finite(value) for number, value in zip(numbers, cells(rows, "value"), strict=True)}
    name = f"{kind} {metric}".strip()
    found = [measure(name, "results", better_side(metric, metric, data.maximize), values)]
    last = final_metrics(data, numbers)
    for recorded in dict.fromkeys(name for row in last.values() for name in row if name.startswith("val_")):
        finals = {number: finite(row.get(recorded)) for number, row in last.items()}
        found.append(
            measure(f"final {recorded}", "results", better_side(recorded, metric, data.maximize, terms), finals)
        )
    gaps = {number: finite(gap) for number, gap in zip(numbers, cells(rows, "gap"), strict=True)}
    return [*found, measure("gap", "results", "lower", gaps)]


def final_metrics(data: StudyData, numbers: Sequence[int]) -> dict[int, dict[str, float | None]]:
    """The recorded metrics of each trial's last epoch, by trial number."""
    return {number: epochs[max(epochs)] for number, epochs in data.records.metrics(numbers).items()}


def once(measures: Iterable[Measure]) -> list[Measure]:
    """The measures that have values, those equal in every trial as one: counted twice, they would blunt the tests."""
    kept: list[Measure] = []
    for entry in measures:
        twin = next((place for place, other in enumerate(kept) if _equal(other, entry)), None)
        if twin is not None:
            kept[twin] = replace(kept[twin], also=(*kept[twin].also, entry.name))
        elif entry.values:
            kept.append(entry)
    return kept


def _equal(one: Measure, other: Measure) -> bool:
    """Whether two measures are one and the same; two that never differ, such as no spikes in each, are not."""
    return (one.kind, one.values) == (other.kind, other.values) and len({*one.values.values()}) > 1
