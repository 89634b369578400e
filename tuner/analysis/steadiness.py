"""The per-step series of trials (`series/trial-NNNN.npz`) -> measures of how steady the runs were."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tuner.analysis.data import StudyData
from tuner.analysis.measures import Measure, PhaseMeasure, measure
from tuner.analysis.noise import Noise, Phase, has_logarithm, roughness, series_noise
from tuner.analysis.trials import cells, finite
from tuner.errors import UsageError

TRACE, TRACE_STEPS = "trace.", "trace_steps"
"""How paths are named in a series, and the steps they were recorded at."""

TOTAL = "loss"
"""The weighted loss, beside the loss terms."""

NO_TERMS = frozenset({TOTAL, "learning_rate", TRACE_STEPS})


@dataclass(frozen=True)
class Series:
    """A trial's recorded arrays by name, each (steps,) or, for a path, (times x ...), and the phases of its run."""

    arrays: Mapping[str, np.ndarray]
    phases: Sequence[Phase]


@dataclass
class Steadiness:
    """Measures over whole runs and within phases; `notes` say what is missing or measured otherwise, a line each."""

    terms: list[str] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    phases: list[PhaseMeasure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def steadiness(data: StudyData, numbers: Sequence[int]) -> Steadiness:
    """How steady these trials ran.

    Of every loss term, and of the weighted loss where there are several terms: the variance of the logarithm around
    its trend, the number of spikes and the highest rise (see noise.py). Of every traced path: its roughness.
    """
    found = Steadiness()
    runs = runs_of(data, numbers, found.notes)
    found.terms = _terms(run.arrays for run in runs.values())
    for column in [*found.terms, *([TOTAL] if len(found.terms) != 1 else [])]:
        having = {number: run for number, run in runs.items() if column in run.arrays}
        if having:
            _add_noise(found, column, having)
    for name in dict.fromkeys(name for run in runs.values() for name in run.arrays if name.startswith(TRACE)):
        rough = {number: _roughness(run.arrays, name) for number, run in runs.items()}
        found.measures.append(measure(f"roughness of {name.removeprefix(TRACE)}", "paths", "lower", rough))
    return found


def _add_noise(found: Steadiness, column: str, runs: Mapping[int, Series]) -> None:
    """A column's noise in these runs: of its logarithm, if it has one in all of them, else as it is."""
    log = all(has_logarithm(run.arrays[column], run.phases) for run in runs.values())
    if not log:
        found.notes.append(f"{column} is not always above 0: its noise is measured as it is, not its logarithm's")
    noises = {number: series_noise(run.arrays[column], run.phases, log) for number, run in runs.items()}
    name = f"log {column}" if log else column
    pooled = {number: noise.pooled for number, noise in noises.items() if noise.pooled is not None}
    for title, values in _numbers(name, column, pooled).items():
        found.measures.append(Measure(title, "steadiness", "lower", values))
    names = dict.fromkeys(phase for run in runs.values() for phase, _, _ in run.phases)
    for phase in names if len(names) > 1 else ():
        inside = {number: noise.phases[phase] for number, noise in noises.items() if phase in noise.phases}
        found.phases += [PhaseMeasure(phase, title, v) for title, v in _numbers(name, column, inside).items() if v]


def _numbers(name: str, column: str, noises: Mapping[int, Noise]) -> dict[str, dict[int, float]]:
    """The measures of a column's noise by title."""
    return {
        f"variance of {name}": {number: noise.variance for number, noise in noises.items()},
        f"spikes in {column}": {number: float(noise.spikes) for number, noise in noises.items()},
        f"highest rise of {name}": {number: noise.highest for number, noise in noises.items()},
    }


def _roughness(arrays: Mapping[str, np.ndarray], name: str) -> float | None:
    return roughness(arrays[name], arrays.get(TRACE_STEPS)) if name in arrays else None


def runs_of(data: StudyData, numbers: Sequence[int], notes: list[str]) -> dict[int, Series]:
    """The series of each trial that has one, by trial number; `notes` gets a line on what is missing."""
    found: dict[int, Series] = {}
    missing = []
    recipes = data.records.recipes(numbers)
    for number in numbers:
        path = data.records.series(number)
        arrays = None if path is None else read_series(path)
        if arrays is None:
            missing.append(number)
            continue
        steps = max((array.shape[0] for name, array in arrays.items() if not name.startswith("trace")), default=0)
        found[number] = Series(arrays, phases_of(data, number, recipes.get(number, {}), steps, notes))
    if missing and recipes:
        listed = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        notes.append(f"no per-step series can be read of trial{'s' if len(missing) > 1 else ''} {listed}")
    return found


def read_series(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a series by name, columns and paths; None where the file is missing or damaged."""
    try:
        with path.open("rb") as source, np.load(source, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return {name: array for name, array in arrays.items() if array.ndim == 1 or name.startswith(TRACE)}


def _terms(runs: Iterable[Mapping[str, np.ndarray]]) -> list[str]:
    """The columns of loss terms, in order."""
    names = dict.fromkeys(name for arrays in runs for name in arrays)
    return [name for name in names if name not in NO_TERMS and not name.startswith(TRACE)]


def phases_of(data: StudyData, number: int, recipe: Mapping[str, Any], steps: int, notes: list[str]) -> list[Phase]:
    """The phases of a trial's timeline over its `steps`; without one, the whole run as one phase named ""."""
    whole: list[Phase] = [("", 0, steps)]
    timeline = recipe.get("timeline")
    if not isinstance(timeline, Mapping):
        return whole
    from tuner.timeline import parse_timeline

    try:
        parsed = parse_timeline(timeline, f"trial {number}: timeline")
    except UsageError as error:
        notes.append(f"{error}; its run is taken as one phase")
        return whole
    bounds = parsed.phase_bounds(_asked_steps(data, number, steps))
    return [(name, first, min(end, steps)) for name, first, end in bounds if first < steps] or whole


def _asked_steps(data: StudyData, number: int, steps: int) -> int:
    """How many steps the run would have had if it had not stopped early, over which its timeline is stretched."""
    row = data.frame.loc[[number]]
    done, asked = (finite(cells(row, name)[0]) or 0.0 for name in ("epochs_done", "epochs_asked"))
    return round(steps / done * asked) if 0 < done < asked else steps
