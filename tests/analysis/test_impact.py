"""Importances against Optuna's own, levels against numbers recomputed by hand."""

from __future__ import annotations

import math
import random
import statistics
import warnings
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.analysis import Impact, Level, analyze

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-5, 1.0, log=True),
    "optimizer": CategoricalDistribution(["Adam", "SGD"]),
    "momentum": FloatDistribution(0, 1),
    "heads": IntDistribution(1, 64),
    "hidden": CategoricalDistribution([0, 1]),
    "mixed": CategoricalDistribution([None, True, 1.5, "a"]),
}


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def trial(value: float | None, state: TrialState = TrialState.COMPLETE, **params: Any) -> FrozenTrial:
    attributes = {name: params.pop(name) for name in ("diverged", "duplicate_of", "infeasible") if name in params}
    return create_trial(
        state=state,
        value=value,
        params=params,
        distributions={name: DISTRIBUTIONS[name] for name in params},
        user_attrs=attributes,
    )


def impact_of(trials: list[FrozenTrial], direction: str = "maximize", search: dict[str, Any] | None = None) -> Impact:
    study = optuna.create_study(direction=direction)
    study.set_user_attr("space", {"search": search or {}})
    study.add_trials(trials)
    return analyze(study).impact


def some_trials(count: int, seed: int = 0) -> list[FrozenTrial]:
    """Complete trials in which the learning rate decides: the best is 1e-2."""
    draw, found = random.Random(seed), []
    for _ in range(count):
        rate, optimizer = 10 ** draw.uniform(-5, 0), draw.choice(["Adam", "SGD"])
        more = {"momentum": draw.random()} if optimizer == "SGD" else {}
        value = 1 - 0.1 * abs(math.log10(rate) + 2) + draw.gauss(0, 0.01)
        found.append(trial(value, rate=rate, optimizer=optimizer, heads=draw.randint(1, 64), **more))
    return found


@pytest.mark.parametrize(("count", "quantile"), [(10, 0.5), (60, 0.5), (120, 0.25), (400, 0.1)])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_importances_are_optunas(count: int, quantile: float, direction: str) -> None:
    complete = some_trials(count)
    noise = [trial(9.0, rate=1.0, duplicate_of=0), trial(0.3, TrialState.PRUNED, rate=0.5), trial(math.inf, rate=0.1)]
    found = impact_of([*complete, *noise], direction)
    alone = optuna.create_study(direction=direction)
    alone.add_trials(complete)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = get_param_importances(alone, evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile))
    assert {entry.parameter: entry.importance for entry in found.parameters} == pytest.approx(expected)
    importances = [entry.importance or 0.0 for entry in found.parameters]
    assert [not entry.sure for entry in found.parameters] == sorted(not entry.sure for entry in found.parameters)
    assert sum(importances) == pytest.approx(1.0)
    assert (found.reason, found.complete) == (None, count)
    assert found.top == math.ceil(quantile * count)


def test_what_decides_is_more_than_chance_and_noise_is_not() -> None:
    by_name = {entry.parameter: entry for entry in impact_of(some_trials(80)).parameters}
    assert by_name["rate"].sure and (by_name["rate"].p or 1.0) <= 0.01
    assert not by_name["heads"].sure and (by_name["heads"].p or 0.0) > 0.01


def test_the_same_study_has_the_same_importances() -> None:
    assert impact_of(some_trials(20)) == impact_of(some_trials(20))


@pytest.mark.parametrize(
    ("trials", "reason"),
    [
        ([], "not enough trials to tell: 0 complete, 10 needed"),
        (some_trials(9), "not enough trials to tell: 9 complete, 10 needed"),
        ([trial(math.inf, rate=0.1)] * 12, "not enough trials to tell: 0 complete, 10 needed"),
        ([trial(0.5, rate=0.1 * k) for k in range(1, 11)], "nothing to tell: all complete trials have the same value"),
        ([trial(0.1 * k, rate=0.1) for k in range(10)], "nothing to tell: no parameter differs"),
        ([trial(0.1 * k) for k in range(10)], "nothing to tell: no parameter differs"),
        (
            [trial(0.5 if k else 0.9, rate=0.1 * (k + 1)) for k in range(10)],
            "nothing to tell: too many of the 10 complete trials share the same values",
        ),
    ],
)
def test_where_nothing_can_be_told_it_says_why(trials: list[FrozenTrial], reason: str) -> None:
    found = impact_of(trials)
    assert (found.reason or "").startswith(reason)
    assert all(entry.importance is None and not entry.sure for entry in found.parameters)


def test_what_optuna_refuses_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("optuna.importance.get_param_importances", refuse)
    found = impact_of(some_trials(12))
    assert found.reason == "Optuna cannot tell: no"
    assert found.parameters[0].levels


def test_optunas_verbosity_is_left_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    trials = some_trials(12)
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    capfd.readouterr()
    analyze(study)
    assert capfd.readouterr().err == ""
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


def test_levels_by_hand() -> None:
    found = impact_of(
        [
            trial(0.9, optimizer="SGD"),
            trial(0.7, optimizer="SGD"),
            trial(0.99, TrialState.PRUNED, optimizer="SGD"),
            trial(None, TrialState.FAIL, optimizer="SGD"),
            trial(0.5, optimizer="Adam"),
            trial(None, TrialState.PRUNED, optimizer="Adam", diverged=True),
            trial(1.0, optimizer="Adam", duplicate_of=4),
            trial(None, TrialState.PRUNED, optimizer="Adam", infeasible="x"),
            trial(None, TrialState.RUNNING, optimizer="Adam"),
        ],
        search={"optimizer": {"choices": ["SGD", "Adam"]}},
    )
    entry = found.parameters[0]
    assert (entry.parameter, entry.trials, entry.log) == ("optimizer", 6, False)
    assert entry.levels == (
        Level("SGD", None, None, 4, 2, pytest.approx(0.8), 0.9, 0.5, 0.25, 0.0, 0.25),
        Level("Adam", None, None, 2, 1, 0.5, 0.5, 0.5, 0.0, 0.5, 0.0),
    )


def test_best_of_a_level_follows_the_direction() -> None:
    trials = [trial(0.9, heads=2), trial(0.7, heads=2)]
    assert impact_of(trials, "minimize").parameters[0].levels[0].best == 0.7
    assert impact_of(trials, "maximize").parameters[0].levels[0].best == 0.9


def test_few_numbers_are_levels_many_are_bins() -> None:
    few = impact_of([trial(0.5, heads=k) for k in (8, 3, 8, 1)]).parameters[0]
    assert [level.value for level in few.levels] == [1, 3, 8]
    many = impact_of([trial(0.01 * k, heads=k) for k in range(1, 13)]).parameters[0]
    assert [(level.low, level.high, level.trials) for level in many.levels] == [
        (1, 3, 3), (4, 6, 3), (7, 9, 3), (10, 12, 3),
    ]  # fmt: skip
    assert [level.mean for level in many.levels] == pytest.approx([0.02, 0.05, 0.08, 0.11])
    assert all(level.is_range and level.value is None for level in many.levels)


def test_bins_of_crowded_values_hold_every_trial() -> None:
    rates = [0.01] * 20 + [0.1 * k for k in range(1, 10)]
    entry = impact_of([trial(0.5, rate=rate) for rate in rates]).parameters[0]
    assert entry.log
    assert sum(level.trials for level in entry.levels) == len(rates)
    assert [level.value for level in entry.levels if not level.is_range] == [0.01]


def test_conditional_parameters_count_where_they_are_active() -> None:
    trials = some_trials(30)
    by_name = {entry.parameter: entry for entry in impact_of(trials).parameters}
    active = [entry for entry in trials if "momentum" in entry.params]
    assert by_name["momentum"].trials == len(active)
    assert sum(level.trials for level in by_name["momentum"].levels) == len(active)
    means = [(level.mean or 0.0) * level.complete for level in by_name["momentum"].levels]
    assert sum(means) / len(active) == pytest.approx(statistics.fmean(entry.value or 0.0 for entry in active))


def test_lists_none_bools_and_mixed_types_are_levels() -> None:
    hidden = [[64, 64], [32]]
    trials = [trial(0.1 * k, hidden=k % 2, mixed=[None, True, 1.5, "a"][k % 4]) for k in range(12)]
    found = impact_of(trials, search={"hidden": {"choices": hidden}})
    by_name = {entry.parameter: entry for entry in found.parameters}
    assert [level.value for level in by_name["hidden"].levels] == hidden
    assert {repr(level.value): level.trials for level in by_name["mixed"].levels} == {
        "None": 3, "True": 3, "1.5": 3, "'a'": 3,
    }  # fmt: skip
    assert found.reason is None


def test_shares_add_up_to_one() -> None:
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    trials = [
        trial(0.5 if k % 3 == 0 else None, states[k % 3], heads=k % 5 + 1, diverged=k % 2 == 0) for k in range(30)
    ]
    for level in impact_of(trials).parameters[0].levels:
        shares = (level.share_complete, level.share_pruned, level.share_diverged, level.share_failed)
        assert sum(shares) == pytest.approx(1.0)


def test_only_failed_trials_have_levels_without_values() -> None:
    found = impact_of([trial(None, TrialState.FAIL, heads=k) for k in (1, 1, 2)])
    assert [(level.mean, level.best, level.share_failed) for level in found.parameters[0].levels] == [
        (None, None, 1.0), (None, None, 1.0),
    ]  # fmt: skip


def test_parameters_that_changed_together_are_told() -> None:
    trials = [
        trial(
            0.1 * k, optimizer=("Adam", "SGD")[k % 2], hidden=k % 2, heads=1 + k % 3, rate=0.1 * 2**-k, momentum=k / 9
        )
        for k in range(9)
    ]
    assert impact_of(trials).together == (("optimizer", "hidden"),)
    assert impact_of([*trials, trial(0.5, optimizer="Adam", hidden=1)]).together == ()
    assert impact_of([]).together == ()
