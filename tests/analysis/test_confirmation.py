"""What fresh seeds say of a search's best settings: against scipy, on studies written by hand; and how it reads."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from rich.console import Console
from scipy import stats

from tuner.analysis.confirmation import Confirmation, candidates, confirmation
from tuner.report.as_json import confirmation_json
from tuner.report.sections.confirmation import confirmation_reading
from tuner.report.terminal import print_confirmation


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def searched(values: Sequence[float | None], direction: str = "maximize", slowest: float = 0.001) -> optuna.Study:
    """A search of one trial a value, each of a learning rate of its own, from the slowest up."""
    study = optuna.create_study(direction=direction, study_name="s")
    study.set_user_attr("space", {"metric": "val_accuracy", "recipe": {}})
    for number, value in enumerate(values):
        rate = slowest * (number + 1)
        study.add_trial(
            create_trial(
                state=TrialState.FAIL if value is None else TrialState.COMPLETE,
                value=value,
                params={"learning_rate": rate},
                distributions={"learning_rate": FloatDistribution(0, 1)},
                user_attrs={"recipe": {"learning_rate": rate, "seed": 0}},
            )
        )
    return study


def fresh(
    study: optuna.Study,
    runs: dict[int, Sequence[float | None]],
    tests: dict[int, Sequence[float]] | None = None,
) -> optuna.Study:
    """The study that confirms it: by trial the value with each of the seeds 1000, 1001, ...; None diverged."""
    confirming = optuna.create_study(direction=study.direction.name.lower(), study_name="s-confirm")
    for number, values in runs.items():
        rate = study.trials[number].params["learning_rate"]
        for place, value in enumerate(values):
            attrs: dict[str, Any] = {"confirms": number, "recipe": {"learning_rate": rate, "seed": 1000 + place}}
            attrs |= {"diverged": True} if value is None else {}
            attrs |= {"test": {"test_accuracy": tests[number][place], "test_loss": 0.0}} if tests else {}
            confirming.add_trial(
                create_trial(
                    state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
                    value=value,
                    params={"seed": 1000 + place},
                    distributions={"seed": IntDistribution(0, 2**31 - 1)},
                    user_attrs=attrs,
                )
            )
    return confirming


def drawn(mean: float, seeds: int, seed: int, spread: float = 0.01) -> list[float]:
    return list(np.random.default_rng(seed).normal(mean, spread, seeds))


def read(found: Confirmation, width: int = 100) -> str:
    console = Console(width=width, record=True, highlight=False, file=io.StringIO())
    print_confirmation(found, console)
    return console.export_text()


def test_means_intervals_and_optimism_are_those_of_the_textbook() -> None:
    study = searched([0.90, 0.99, 0.95])
    runs = {1: drawn(0.96, 5, 1), 2: drawn(0.94, 5, 2)}
    tests = {1: drawn(0.95, 5, 3), 2: drawn(0.93, 5, 4)}
    found = confirmation(study, fresh(study, runs, tests))
    assert [entry.trial for entry in found.candidates] == [1, 2]
    for entry in found.candidates:
        for mean, values in ((entry.validation, runs[entry.trial]), (entry.test, tests[entry.trial])):
            low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
            assert (mean.mean, mean.low, mean.high) == pytest.approx((np.mean(values), low, high))
        assert entry.optimism == pytest.approx(entry.searched - np.mean(runs[entry.trial]))
        assert entry.test_optimism == pytest.approx(entry.searched - np.mean(tests[entry.trial]))
    assert found.optimism == pytest.approx(np.mean([entry.optimism for entry in found.candidates]))
    assert found.test_metric == "test_accuracy"


def test_optimism_is_above_zero_where_the_search_promised_too_much_whatever_the_direction() -> None:
    study = searched([0.10, 0.30], direction="minimize")
    found = confirmation(study, fresh(study, {0: [0.2, 0.2, 0.2], 1: [0.25, 0.25, 0.25]}))
    assert [entry.optimism for entry in found.candidates] == pytest.approx([0.1, -0.05])
    assert found.winner == 0


def test_settings_are_compared_with_the_winner_over_seeds_and_adjusted_for_their_pairs() -> None:
    study = searched([0.99, 0.98, 0.97])
    runs = {0: drawn(0.95, 6, 1), 1: drawn(0.97, 6, 2), 2: drawn(0.955, 6, 3)}
    found = confirmation(study, fresh(study, runs))
    assert found.winner == 1
    chances = {n: stats.ttest_rel(runs[1], runs[n]).pvalue for n in (0, 2)}
    small, large = sorted(chances.values())
    holm = {small: min(1, 3 * small), large: min(1, max(2 * large, 3 * small))}  # three pairs, whichever wins
    for number, p in chances.items():
        entry = found.candidate(number)
        assert entry is not None
        assert entry.against_winner is not None
        assert entry.against_winner.difference == pytest.approx(np.mean(runs[1]) - np.mean(runs[number]))
        assert entry.p_adjusted == pytest.approx(holm[p])
    winner = found.candidate(1)
    assert winner is not None
    assert winner.against_winner is None


def test_of_settings_that_are_alike_none_is_called_worse_than_the_winner() -> None:
    study = searched([0.99, 0.98, 0.97, 0.96, 0.95])
    alarms = 0
    for first in range(0, 500, 5):
        found = confirmation(study, fresh(study, {number: drawn(0.9, 5, first + number) for number in range(5)}))
        alarms += any((entry.p_adjusted or 1.0) < 0.05 for entry in found.candidates)
    assert alarms <= 5, "of 100"


def test_pairs_are_the_seeds_that_both_have() -> None:
    study = searched([0.99, 0.98])
    runs: dict[int, Sequence[float | None]] = {0: drawn(0.97, 8, 1), 1: drawn(0.95, 4, 2)}
    entry = confirmation(study, fresh(study, runs)).candidate(1)
    assert entry is not None
    assert entry.against_winner is not None
    assert entry.against_winner.p == pytest.approx(stats.ttest_rel(runs[0][:4], runs[1]).pvalue)


def test_the_winner_is_never_chosen_on_the_test_split() -> None:
    study = searched([0.99, 0.98])
    runs, tests = {0: [0.97] * 3, 1: [0.96] * 3}, {0: [0.5] * 3, 1: [0.99] * 3}
    assert confirmation(study, fresh(study, runs, tests)).winner == 0


def test_a_setting_that_diverged_with_a_seed_does_not_win_over_one_that_never_does() -> None:
    study = searched([0.99, 0.98])
    runs: dict[int, Sequence[float | None]] = {0: [0.97, None, 0.97], 1: [0.96, 0.95, 0.96]}
    found = confirmation(study, fresh(study, runs))
    assert found.winner == 1
    assert found.candidates[0].validation.trials == 2
    assert "Trial 0 diverged with 1 of 3 seeds (1001); its means are over the others." in confirmation_reading(found)
    assert "2 of 3" in read(found)


def test_candidates_are_complete_finite_and_different_apart_from_seeds() -> None:
    study = searched([0.9, None, float("inf"), 0.95])
    best = study.trials[3]
    again = {"recipe": {**best.user_attrs["recipe"], "seed": 7, "data_seed": 7}}
    for value, attrs in ((0.97, again), (0.99, {"recipe": {"learning_rate": 1}, "duplicate_of": 3}), (0.99, {})):
        study.add_trial(create_trial(value=value, user_attrs=attrs))
    assert [trial.number for trial in candidates(study, 5)] == [4, 0]
    assert [trial.number for trial in candidates(study, 1)] == [4]


def test_runs_that_are_still_queued_are_counted_and_the_command_named() -> None:
    study = searched([0.99])
    confirming = fresh(study, {0: [0.97]})
    confirming.enqueue_trial({"seed": 1001}, user_attrs={"confirms": 0})
    found = confirmation(study, confirming)
    assert found.unfinished == 1
    assert confirmation_reading(found)[-1] == "1 run still to be trained: tuner confirm s."


def test_the_reading_says_what_the_winner_is_worth() -> None:
    study = searched([0.9861, 0.98, 0.97])
    runs = {0: [0.97, 0.975, 0.974, 0.973, 0.9735], 1: [0.971, 0.974, 0.975, 0.972, 0.9730]}
    runs[2] = [0.951, 0.954, 0.955, 0.952, 0.9530]
    found = confirmation(study, fresh(study, runs, {number: [0.969] * 5 for number in runs}))
    first, winner, average = confirmation_reading(found)
    assert first.startswith("Trial 0 had val_accuracy 0.9861 in the search; over 5 fresh seeds it has 0.9731 +- 0.0023")
    assert first.endswith(
        "and 0.9690 +- 0 on the test split: "
        "the search was 0.013 too optimistic for validation, and 0.017 too optimistic for the test split."
    )
    assert winner.startswith("It stays the best over fresh seeds. Trial 2 is worse (p <0.001)")
    assert "trial 1 cannot be told from it (p 1.00)" in winner
    assert average.startswith("Optimism of the search over the 3 settings, on average: +0.012 for validation, +0.0097")


def test_another_winner_is_named_with_its_value_in_the_search() -> None:
    study = searched([0.99, 0.98])
    found = confirmation(study, fresh(study, {0: drawn(0.95, 5, 1), 1: drawn(0.97, 5, 2)}))
    reading = " ".join(confirmation_reading(found))
    assert "The best over fresh seeds is trial 1" in reading
    assert "(0.9800 in the search)" in reading
    assert "no test split" in reading


def test_a_single_seed_has_no_interval_and_no_test() -> None:
    study = searched([0.99, 0.98])
    found = confirmation(study, fresh(study, {0: [0.97], 1: [0.96]}))
    reading = " ".join(confirmation_reading(found))
    assert "over 1 fresh seed it has 0.9700 on validation" in reading
    assert "Trial 1 was not tested: not enough seeds to tell" in reading


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    study = searched([0.99, 0.98, 0.97])
    runs = {number: drawn(0.95, 5, number) for number in range(3)}
    text = read(confirmation(study, fresh(study, runs, runs)), width)
    assert max(map(len, text.splitlines())) <= width
    assert all(f"{np.mean(values):.4f}" in text for values in runs.values())


def test_nothing_confirmed_and_nothing_complete_are_said() -> None:
    study = searched([0.99])
    empty = confirmation(study, fresh(study, {}))
    assert confirmation_reading(empty) == ["Nothing is confirmed yet."]
    none = confirmation(study, fresh(study, {0: [None, None]}))
    assert none.winner is None
    assert "it has no value over fresh seeds" in read(none)
    assert confirmation_json(none)["candidates"][0]["validation"]["mean"] is None


def test_runs_of_another_study_of_the_same_name_are_not_counted() -> None:
    study, other = searched([0.99, 0.98]), searched([0.9])
    confirming = fresh(study, {0: [0.97], 1: [0.96]})
    assert [entry.trial for entry in confirmation(other, confirming).candidates] == [0]
    assert confirmation(searched([0.9, 0.8], slowest=0.003), confirming).candidates == ()
