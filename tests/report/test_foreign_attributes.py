"""A plain Optuna study whose own attributes have the names of ours: read as ours, or left alone; never a traceback."""

from __future__ import annotations

import io
import json
from typing import Any

import optuna
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from rich.console import Console

from tuner.analysis import StudyData, analyze_data
from tuner.analysis.trials import FIXED_COLUMNS
from tuner.report.as_json import analysis_json
from tuner.report.page.drawing import drawn
from tuner.report.terminal import print_analysis
from tuner.storage.reading import records_of

KINDS = {
    "learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
    "optimizer": CategoricalDistribution(["Adam", "SGD"]),
}
WORDS = (
    "space", "search", "learning_rate", "optimizer", "choices", "low", "high", "log", "type", "recipe", "metric",
    "task", "value", "best", "last", "val_loss", "epochs", "trials", "study", "mode", "good", "poor",
)  # fmt: skip
"""Keys and texts that mean something to us."""

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(10**400) | st.text(max_size=3)
    | st.sampled_from(WORDS)
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=2), inner),
    max_leaves=8,
)
SPACES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("task", "mode", "metric", "value", "recipe"), JSON),
        "search": st.dictionaries(
            st.sampled_from(["learning_rate", "optimizer", "width"]), st.dictionaries(st.sampled_from(WORDS), JSON)
        ),
    },
)
OF_STUDY = ("budget", "expect", "warm_start", "seconds_used", "task_hash", "engine", "pruner")
OF_TRIAL = (*FIXED_COLUMNS, "recipe", "values", "traceback", "default", "seed")


def study_with(own: dict[str, Any], of_trials: list[dict[str, Any]]) -> StudyData:
    study = optuna.create_study(direction="maximize")
    for key, value in own.items():
        study.set_user_attr(key, value)
    for number in range(14):
        state = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE, TrialState.FAIL)[number % 4]
        study.add_trial(
            create_trial(
                state=state,
                value=number / 14 if state == TrialState.COMPLETE else None,
                params={"learning_rate": 10 ** (-1 - number / 4), "optimizer": ("Adam", "SGD")[number % 2]},
                distributions=KINDS,
                user_attrs=of_trials[number % len(of_trials)] if of_trials else {},
                intermediate_values={1: number / 20, 2: number / 15} if number % 3 else {},
            )
        )
    return StudyData(records_of(study))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    own=st.dictionaries(st.sampled_from(OF_STUDY), JSON),
    space=st.none() | JSON | SPACES,
    of_trials=st.lists(st.dictionaries(st.sampled_from(OF_TRIAL), JSON), max_size=4),
)
def test_what_another_program_stored_under_our_names_does_no_harm(
    own: dict[str, Any], space: Any, of_trials: list[dict[str, Any]]
) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data = study_with(own if space is None else own | {"space": space}, of_trials)
    found = analyze_data(data)
    print_analysis(found, Console(file=io.StringIO(), width=60))
    json.dumps(analysis_json(found))
    drawn(data, found)
