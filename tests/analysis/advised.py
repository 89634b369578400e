"""Studies made for advice, and the advice that is given of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tuner.analysis import StudyData, analyze_data
from tuner.analysis.advice import Advice
from tuner.recipe import Recipe
from tuner.storage.records import EPOCH_COLUMNS, Records

COUNT = 60
AT = np.random.default_rng(1).permutation(COUNT) / (COUNT - 1)
"""Where each trial's value stands in the range that matters, 0 to 1."""
NOISE = np.random.default_rng(2).normal(size=COUNT)

Described = dict[str, Any]


def kind_of(entry: Described) -> BaseDistribution:
    """Optuna's word for a description."""
    if "choices" in entry:
        return CategoricalDistribution(entry["choices"])
    kind = IntDistribution if isinstance(entry["low"], int) and isinstance(entry["high"], int) else FloatDistribution
    more = {key: entry[key] for key in ("log", "step") if key in entry}
    return kind(entry["low"], entry["high"], **more)


def values_at(entry: Described, places: np.ndarray) -> list[Any]:
    """Values spread over a range, or the choices in their order."""
    if "choices" in entry:
        choices = entry["choices"]
        return [choices[min(int(place * len(choices)), len(choices) - 1)] for place in places]
    low, high = entry["low"], entry["high"]
    if entry.get("log"):
        found = [math.exp(math.log(low) + place * (math.log(high) - math.log(low))) for place in places]
        return [min(max(value, low), high) for value in found]
    found = [low + place * (high - low) for place in places]
    if step := entry.get("step"):
        found = [low + round((value - low) / step) * step for value in found]
    return [round(value) for value in found] if isinstance(low, int) and isinstance(high, int) else found


def study(
    search: Mapping[str, Described],
    response: Sequence[float],
    maximize: bool = True,
    places: Mapping[str, np.ndarray] | None = None,
    states: Sequence[str] | None = None,
    **more: Any,
) -> Records:
    """A study: `response` is better where it is higher, whichever way the metric goes."""
    count = len(response)
    draw = np.random.default_rng(3)
    where = {name: (places or {}).get(name, draw.permutation(count) / max(1, count - 1)) for name in search}
    sign = 1.0 if maximize else -1.0
    states = states or ["COMPLETE"] * count
    values = [sign * value if state == "COMPLETE" else math.nan for value, state in zip(response, states, strict=True)]
    recipe = Recipe().model_dump() | more.pop("recipe", {})
    space = {"task": "digits", "sampler": "tpe", "search": dict(search), "recipe": recipe} | more.pop("space", {})
    curves = more.pop("curves", [])
    epochs = more.pop("epochs", [])
    inactive = more.pop("inactive", {})
    parameters = {name: values_at(entry, where[name]) for name, entry in search.items()}
    for name, idle in inactive.items():
        parameters[name] = [pd.NA if off else value for value, off in zip(parameters[name], idle, strict=True)]
    reports = [
        (number, step, sign * value) for number, curve in enumerate(curves) for step, value in enumerate(curve, 1)
    ]
    return Records(
        name="s",
        directions=("MAXIMIZE" if maximize else "MINIMIZE",),
        attributes={"space": space},
        states=list(states),
        values=np.array(values),
        started=pd.DatetimeIndex([pd.NaT] * count),
        completed=pd.DatetimeIndex([pd.NaT] * count),
        notes=more.pop("notes", {}),
        parameters=parameters,
        distributions={name: kind_of(entry) for name, entry in search.items()},
        reports=pd.DataFrame(reports, columns=["trial", "step", "value"]).astype({"trial": int, "step": int}),
        epochs=pd.DataFrame(epochs, columns=list(EPOCH_COLUMNS)),
        **more,
    )


def advice(records: Records) -> list[Advice]:
    return list(analyze_data(StudyData(records)).advice)


def of_kind(records: Records, kind: str, parameter: str | None = None) -> list[Advice]:
    """The advice of a kind."""
    return [entry for entry in advice(records) if entry.kind == kind and parameter in (None, entry.parameter)]


def one(records: Records, kind: str, parameter: str | None = None) -> Advice:
    """The only advice of a kind."""
    found = of_kind(records, kind, parameter)
    assert len(found) == 1, advice(records)
    return found[0]


OTHER = {"width": {"low": 8, "high": 64}}
"""A parameter beside, that does nothing."""

both = pytest.mark.parametrize("maximize", [True, False])

RATE = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
"""The learning rate, as it is usually searched."""
