"""A study as columns: what SQL gives is what Optuna gives, whatever a study holds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from same_records import assert_same

from tuner.storage.reading import read_only, read_study, records_of, study_names
from tuner.storage.records import Records

Open = Callable[..., optuna.storages.RDBStorage]
CHOICES = ([None, True, "a", 1.5], [0, 1, 2], ["Adam", "SGD"], [False, -3, "", "null"])
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["recipe", "values", "traceback", "reason", "diverged", "seconds"]) | WORDS
START = datetime(2026, 3, 1)


@st.composite
def kinds(draw: st.DrawFn) -> list[BaseDistribution]:
    """A parameter's ranges, in the order they were used: a range may change within a study, choices may not."""
    kind = draw(st.sampled_from(["float", "log", "int", "int log", "int step", "float step", "choices"]))
    if kind == "choices":
        return [CategoricalDistribution(draw(st.sampled_from(CHOICES)))]
    ranges: list[BaseDistribution] = []
    for _ in range(draw(st.integers(1, 3))):
        low, length = draw(st.integers(1, 50)), draw(st.integers(0, 40))
        step = draw(st.integers(1, 4))
        ranges.append(
            {
                "float": FloatDistribution(low / 7 - 3, (low + length) / 7 - 3),
                "log": FloatDistribution(low * 1e-6, (low + length) * 1e-4, log=True),
                "int": IntDistribution(low - 20, low - 20 + length),
                "int log": IntDistribution(low, low + length, log=True),
                "int step": IntDistribution(low, low + length * step, step=step),
                "float step": FloatDistribution(low / 4, low / 4 + length * step / 4, step=step / 4),
            }[kind]
        )
    return ranges


@st.composite
def values_of(draw: st.DrawFn, kind: BaseDistribution) -> Any:
    """A value of a range or choice."""
    if isinstance(kind, CategoricalDistribution):
        return draw(st.sampled_from(kind.choices))
    assert isinstance(kind, (FloatDistribution, IntDistribution))
    if kind.step is not None:
        place = draw(st.integers(0, round((kind.high - kind.low) / kind.step)))
        return kind.low + place * kind.step
    return draw(st.floats(kind.low, kind.high))


@st.composite
def trials(draw: st.DrawFn, parameters: dict[str, list[BaseDistribution]]) -> FrozenTrial:
    """A trial in any state, some of the parameters active."""
    state = draw(st.sampled_from(list(TrialState)))
    used = {name: draw(st.sampled_from(ranges)) for name, ranges in parameters.items() if draw(st.booleans())}
    finite_or_not = st.floats(allow_nan=False)
    value = draw(finite_or_not) if state == TrialState.COMPLETE else None
    if state == TrialState.PRUNED:
        value = draw(st.none() | finite_or_not)
    trial = create_trial(
        state=state,
        value=value,
        params={name: draw(values_of(kind)) for name, kind in used.items()},
        distributions=used,
        user_attrs=draw(st.dictionaries(KEYS, JSON, max_size=3)),
        intermediate_values=draw(st.dictionaries(st.integers(0, 30), st.floats(), max_size=4)),
    )
    began, took = draw(st.integers(0, 10**9)), draw(st.integers(0, 10**8))
    if trial.datetime_start is not None:
        trial.datetime_start = START + timedelta(milliseconds=began)
    if trial.datetime_complete is not None:
        trial.datetime_complete = (trial.datetime_start or START) + timedelta(milliseconds=took)
    return trial


@st.composite
def studies(draw: st.DrawFn) -> list[FrozenTrial]:
    """The trials of a study."""
    parameters = draw(st.dictionaries(WORDS, kinds(), max_size=4))
    return draw(st.lists(trials(parameters), max_size=8))


def by_objects(study: optuna.Study) -> Records:
    """The same study read trial by trial: in memory there is no SQL."""
    copy = optuna.create_study(study_name=study.study_name, directions=study.directions)
    for key, value in study.user_attrs.items():
        copy.set_user_attr(key, value)
    copy.add_trials(study.get_trials())
    return records_of(copy)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(several=st.lists(studies(), min_size=1, max_size=3), attributes=st.dictionaries(WORDS, JSON, max_size=3))
def test_sql_reads_what_optuna_reads(
    several: list[list[FrozenTrial]],
    attributes: dict[str, Any],
    tmp_path: Path,
    empty_database: Path,
    open_database: Open,
) -> None:
    path = Path(shutil.copy(empty_database, tmp_path / "some.db"))
    storage = open_database(path)
    made = [
        optuna.create_study(study_name=f"study {place}", storage=storage, direction=["maximize", "minimize"][place % 2])
        for place in range(len(several))
    ]
    for key, value in attributes.items():
        made[-1].set_user_attr(key, value)
    for place in range(max(map(len, several))):  # in turns, so that the ids of a study's trials have gaps
        for study, wanted in zip(made, several, strict=True):
            if place < len(wanted):
                study.add_trial(wanted[place])
    engine = read_only(path)
    assert study_names(engine) == [study.study_name for study in made]
    for study in made:
        assert_same(read_study(engine, study.study_name), by_objects(study))
        assert_same(records_of(study), by_objects(study))
    storage.engine.dispose()


def test_a_range_that_changed_holds_all_values_without_a_warning() -> None:
    """Ranges of one step need not share their values: 0, 5, 10 and 3, 8, 13 together have none."""
    study = optuna.create_study()
    for low, high, value in ((0, 10, 5), (3, 13, 13)):
        kind = IntDistribution(low, high, step=5)
        study.add_trial(create_trial(value=1.0, params={"k": value}, distributions={"k": kind}))
    kind = records_of(study).distributions["k"]
    assert isinstance(kind, IntDistribution)
    assert (kind.low, kind.high) == (0, 13)
    assert all(kind._contains(value) for value in (5, 13))
