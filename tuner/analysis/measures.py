"""What trials are compared on: each measure, a number a trial. Here are their results; steadiness.py has the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from tuner.analysis.trials import finite
from tuner.storage.epochs import EpochRows

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


def metric_of(study: optuna.Study) -> tuple[str, str]:
    """The study's metric, and what a trial's value is of it: `best` epoch, `last`, or "" for a plain objective's."""
    space = study.user_attrs.get("space")
    said = space if isinstance(space, Mapping) else {}
    return str(said.get("metric") or "value"), str(said.get("value") or "")


def results(
    study: optuna.Study, trials: Sequence[FrozenTrial], epochs: EpochRows | None, terms: Sequence[str]
) -> list[Measure]:
    """The trials' values, their last epochs' validation metrics and loss terms (`terms`), and their gaps."""
    metric, kind = metric_of(study)
    maximize = study.direction == StudyDirection.MAXIMIZE
    values = {trial.number: finite(trial.value) for trial in trials}
    name = f"{kind} {metric}".strip()
    found = [measure(name, "results", better_side(metric, metric, maximize), values)]
    last = {} if epochs is None else final_metrics(epochs, trials)
    for recorded in dict.fromkeys(name for row in last.values() for name in row if name.startswith("val_")):
        finals = {number: finite(row.get(recorded)) for number, row in last.items()}
        found.append(measure(f"final {recorded}", "results", better_side(recorded, metric, maximize, terms), finals))
    gaps = {trial.number: finite(trial.user_attrs.get("gap")) for trial in trials}
    return [*found, measure("gap", "results", "lower", gaps)]


def final_metrics(epochs: EpochRows, trials: Iterable[FrozenTrial]) -> dict[int, dict[str, float | None]]:
    """The recorded metrics of each trial's last epoch, by trial number."""
    numbers = {trial._trial_id: trial.number for trial in trials}
    return {numbers[row["trial_id"]]: row["metrics"] for row in epochs.read(list(numbers))}  # the last one stays


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
