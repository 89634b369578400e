"""The analysis on a terminal: what it says, and that it fits."""

from __future__ import annotations

import io
import math
import random
import re
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from rich.console import Console

from tuner.analysis import Analysis, analyze
from tuner.report import print_analysis
from tuner.report.words import duration, level_labels, measured, percent, shown

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
    "optimizer": CategoricalDistribution(["Adam", "SGD"]),
    "optimizer_kwargs.momentum": FloatDistribution(0.5, 0.99),
    "model.hidden": CategoricalDistribution([0, 1, 2]),
    "model.width": IntDistribution(16, 256, step=16),
}
HIDDEN = [[32], [64, 64], [128, 64, 32]]


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_of(count: int) -> optuna.Study:
    """`count` trials in all states; the learning rate decides, the best is near 3e-3."""
    study = optuna.create_study(direction="maximize", study_name="digits-full")
    search = {name: {} for name in DISTRIBUTIONS} | {"model.hidden": {"choices": HIDDEN}}
    space = {"task": "digits", "mode": "full", "metric": "val_accuracy", "value": "best", "search": search}
    study.set_user_attr("space", space)
    study.set_user_attr("budget", {"trials": 200})
    draw = random.Random(0)
    for number in range(count):
        params: dict[str, Any] = {
            "learning_rate": 10 ** draw.uniform(-5, -1),
            "optimizer": draw.choice(["Adam", "SGD"]),
            "model.hidden": draw.randrange(3),
            "model.width": draw.randrange(16, 257, 16),
        }
        if params["optimizer"] == "SGD":
            params["optimizer_kwargs.momentum"] = draw.uniform(0.5, 0.99)
        value = 0.98 - 0.03 * abs(math.log10(params["learning_rate"]) + 2.5) + draw.gauss(0, 0.003)
        state, attributes = outcome(number, value, params["learning_rate"])
        study.add_trial(
            create_trial(
                state=state,
                value=value if state == TrialState.COMPLETE else None,
                params=params,
                distributions={name: DISTRIBUTIONS[name] for name in params},
                user_attrs={"recipe": {}, "seconds": 40.0, "epochs_asked": 30, **attributes},
            )
        )
    return study


def outcome(number: int, value: float, rate: float) -> tuple[TrialState, dict[str, Any]]:
    if number == 0:
        return TrialState.COMPLETE, {"enqueued": "default recipe", "gap": 0.01, "epochs_done": 30}
    if rate > 0.05:
        return TrialState.PRUNED, {"diverged": True, "reason": "diverged at epoch 1: train_loss is nan"}
    if value < 0.93:
        return TrialState.PRUNED, {"reason": f"pruned by the pruner at epoch {number}"}
    if number % 13 == 0:
        return TrialState.FAIL, {"reason": "ValueError: [red] is\x1b[2J no \x07 colour\nsecond line"}
    return TrialState.COMPLETE, {"gap": 0.001 * number, "epochs_done": 30}


def printed(analysis: Analysis, width: int, **options: Any) -> str:
    console = Console(width=width, file=io.StringIO(), **options)
    print_analysis(analysis, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 50, 80, 120, 200])
@pytest.mark.parametrize("count", [0, 1, 7, 44])
def test_every_line_fits(width: int, count: int) -> None:
    text = printed(analyze(study_of(count)), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    assert "\x07" not in text
    for heading in ("Summary", "Top trials", "Impact of each parameter", "Advice"):
        assert heading in text


@pytest.mark.parametrize("width", [50, 80, 120])
def test_the_best_trial_is_named(width: int) -> None:
    study = study_of(44)
    text = printed(analyze(study), width)
    assert f"best: trial {study.best_trial.number}, val_accuracy {study.best_value:.4f}" in text


@pytest.mark.parametrize("width", [50, 80, 120])
def test_no_number_is_cut(width: int) -> None:
    study = study_of(44)
    analysis = analyze(study)
    words = re.split(r"[\s,;()=]+", printed(analysis, width))
    for entry in analysis.top.trials:
        assert f"{entry.value:.4f}" in words
        assert f"{entry.parameters['learning_rate']:.4g}" in words
    for parameter in analysis.impact.parameters:
        for level in parameter.levels:
            assert measured(level.mean) in words


def test_readings_say_what_the_tables_hold() -> None:
    analysis = analyze(study_of(60))
    text = " ".join(printed(analysis, 400).split())
    assert analysis.impact.parameters[0].parameter == "learning_rate"
    importance = analysis.impact.parameters[0].importance
    top, complete = analysis.impact.top, analysis.counts.complete
    assert f"learning_rate matters most for reaching the top {top} of {complete} complete trials" in text
    assert f"({importance:.2f} of all importance); best mean between" in text
    assert f"{analysis.counts.counted} of 200 trials: {complete} complete" in text
    assert "than the default recipe (trial 0," in text
    assert "validation loss ends" in text
    assert "ValueError: [red] is [2J no colour" in text  # shown, not obeyed, and one line of it


def test_too_few_trials_are_said_to_be() -> None:
    analysis = analyze(study_of(7))
    assert f"not enough trials to tell: {analysis.counts.complete} complete, 10 needed" in printed(analysis, 80)


def test_where_nothing_matters_nothing_is_said_to() -> None:
    draw = random.Random(1)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(
        lambda trial: draw.random() + 0 * trial.suggest_float("a", 0, 1) + 0 * trial.suggest_float("b", 0, 1), 30
    )
    assert "no parameter stands out for reaching the top 15 of 30 complete trials" in printed(analyze(study), 200)


def test_studies_without_values_are_readable() -> None:
    study = optuna.create_study()
    study.add_trials([create_trial(state=TrialState.FAIL, user_attrs={"reason": "out of memory"})] * 3)
    text = printed(analyze(study), 80)
    assert "no best trial" in text
    assert "3 x out of memory" in text


def test_one_trial_of_a_plain_objective() -> None:
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0.5, 0.5) * 2, n_trials=1)
    text = printed(analyze(study), 60)
    assert "best: trial 0, value 1.000" in text
    assert "tried with one value only: x 0.5" in text


def test_a_terminal_of_ascii_is_enough() -> None:
    raw = io.BytesIO()
    console = Console(width=80, file=io.TextIOWrapper(raw, encoding="ascii"))
    print_analysis(analyze(study_of(44)), console)
    console.file.flush()
    assert b"Impact of each parameter" in raw.getvalue()


def test_many_choices_are_not_all_listed() -> None:
    study = optuna.create_study()
    names = [f"name{number}" for number in range(30)]
    study.optimize(lambda trial: float(len(trial.suggest_categorical("name", names))), n_trials=60)
    tried = len({trial.params["name"] for trial in study.trials})
    assert f"and {tried - 12} values more" in printed(analyze(study), 80)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.97, "0.9700"), (12, "12.00"), (1234.4, "1234"), (1e-5, "1.000e-05"), (None, "-"), (math.nan, "-")],
)
def test_measured(number: float | None, text: str) -> None:
    assert measured(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (64, "64"), (0.00123456, "0.001235"), ("AdamW", "AdamW"), ("1", "'1'"),
        ("true", "'true'"), ([64, 0.5], "[64, 0.5]"), ({"a": [1]}, "{a: [1]}"), ("a\nb", "a b"),
    ],
)  # fmt: skip
def test_shown(value: object, text: str) -> None:
    assert shown(value) == text


def test_percent_and_duration() -> None:
    assert [percent(share) for share in (0.0, 0.001, 0.5, 0.999, 1.0)] == ["0%", "<1%", "50%", ">99%", "100%"]
    assert [duration(s) for s in (0.25, 42.0, 59.9, 200.0, 7500.0)] == [
        "0.25 s", "42 s", "60 s", "3 min 20 s", "2 h 5 min",
    ]  # fmt: skip


def test_labels_have_as_many_digits_as_tell_levels_apart() -> None:
    assert level_labels([(None, 0.001, 0.00312), (None, 0.0032, 0.1)], True) == [
        "1.0e-03 to 3.1e-03",
        "3.2e-03 to 1.0e-01",
    ]
    assert level_labels([(None, 0.5001, 0.5002), (0.5003, None, None)], False) == ["0.5001 to 0.5002", "0.5003"]
    assert level_labels([(None, 8, 1024), (2048, None, None)], True) == ["8 to 1024", "2048"]
    assert level_labels([(None, None, None), (0.5, None, None)], False) == ["null", "0.5"]
