"""The analysis of studies whose truth is known: 100 seeds of each, every other one to be minimized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import truths

from tuner.analysis import StudyData
from tuner.analysis import _findings as findings_of
from tuner.analysis.advice import Advice, Findings, advise
from tuner.analysis.impact import impact
from tuner.analysis.importance import importances
from tuner.analysis.levels import levels_by_parameter

pytestmark = pytest.mark.slow

SEEDS = 100
MOST_FALSE, FEWEST_RIGHT = 5, 95
NAMES = ("learning_rate", "width", "dropout", "optimizer", "batch_size")


class Found:
    """What is found and advised, of each seed from `first` on."""

    def __init__(self, truth: truths.Truth, first: int, **study: Any) -> None:
        self.findings: list[Findings] = []
        self.advice: list[tuple[Advice, ...]] = []
        for seed in range(first, first + SEEDS):
            told = findings_of(StudyData(truths.study_of(truth, seed, maximize=seed % 2 == 0, **study)), ())
            self.findings.append(told)
            self.advice.append(advise(told))

    def advised(self, is_meant: Callable[[Advice], bool]) -> int:
        """How many studies have such advice."""
        return sum(any(map(is_meant, advice)) for advice in self.advice)

    def count(self, kind: str, parameter: str | None = None, **evidence: Any) -> int:
        """How many studies have advice of a kind, on a parameter or on any, with that evidence."""
        return self.advised(
            lambda entry: (
                entry.kind == kind
                and parameter in (None, entry.parameter)
                and all(entry.evidence[key] == value for key, value in evidence.items())
            )
        )

    def widened_but(self, parameter: str, edge: str) -> int:
        """How many studies are told to widen anything else."""
        return self.advised(
            lambda entry: entry.kind == "widen" and (entry.parameter, entry.evidence["edge"]) != (parameter, edge)
        )

    def sure(self, name: str) -> int:
        """In how many studies a parameter's effect is sure."""
        return sum(name in told.model.found for told in self.findings)

    def first_and_sure(self, name: str) -> int:
        """In how many studies a parameter is the most important, and surely so."""
        foremost = [
            impact(
                told.data, levels_by_parameter(told.data), told.model, importances(told.data), told.stability.telling
            ).parameters[0]
            for told in self.findings
        ]
        return sum(entry.parameter == name and entry.sure for entry in foremost)

    def sure_pairs(self) -> list[set[frozenset[str]]]:
        """The sure pairs of each study."""
        return [
            {frozenset((pair.first, pair.second)) for pair in told.model.pairs if pair.sure} for told in self.findings
        ]


def test_where_one_parameter_decides_the_others_are_to_be_fixed_and_nothing_widened() -> None:
    found = Found(truths.decides, 100)
    assert found.first_and_sure("learning_rate") >= FEWEST_RIGHT
    assert found.count("widen") <= MOST_FALSE
    assert found.count("fix", "learning_rate") == 0
    assert found.count("fix") >= FEWEST_RIGHT
    for name in NAMES[1:]:
        assert found.sure(name) <= MOST_FALSE
        assert found.count("fix", name) >= FEWEST_RIGHT
    assert found.count("narrow", "learning_rate") >= SEEDS / 2
    assert found.advised(lambda entry: entry.kind == "narrow" and entry.parameter != "learning_rate") <= MOST_FALSE


def test_a_category_that_loses_is_dropped() -> None:
    found = Found(truths.category, 200)
    assert found.first_and_sure("optimizer") >= FEWEST_RIGHT
    assert found.count("narrow", "optimizer", dropped=["SGD"]) >= FEWEST_RIGHT
    assert found.advised(lambda entry: entry.kind == "narrow" and entry.evidence.get("dropped") != ["SGD"]) == 0
    assert found.count("widen") <= MOST_FALSE
    assert found.count("fix", "optimizer") == 0


@pytest.mark.parametrize(
    ("truth", "first_seed", "name", "edge"),
    [(truths.edge, 300, "learning_rate", "high"), (truths.low_edge, 400, "width", "low")],
)
def test_an_optimum_at_an_edge_is_widened_there_and_nothing_else(
    truth: truths.Truth, first_seed: int, name: str, edge: str
) -> None:
    found = Found(truth, first_seed)
    assert found.count("widen", name, edge=edge) >= FEWEST_RIGHT
    assert found.widened_but(name, edge) <= MOST_FALSE
    assert found.count("narrow", name, edge=edge) == 0
    assert found.count("fix", name) == 0


def test_a_pair_that_goes_together_is_found_and_neither_is_fixed() -> None:
    found = Found(truths.together, 500)
    pair = frozenset(("learning_rate", "width"))
    assert sum(pair in pairs for pairs in found.sure_pairs()) >= FEWEST_RIGHT
    assert sum(bool(pairs - {pair}) for pairs in found.sure_pairs()) <= MOST_FALSE
    assert found.count("fix", "learning_rate") == found.count("fix", "width") == 0
    assert found.count("widen") <= MOST_FALSE


def test_the_rate_beyond_which_trials_diverge_is_found_and_bounded() -> None:
    found = Found(truths.diverging, 600)
    near = [
        any(
            entry.parameter == "learning_rate" and entry.side == "above" and 0.5 <= entry.value / truths.THRESHOLD <= 2
            for entry in told.stability.thresholds
        )
        for told in found.findings
    ]
    assert sum(near) >= FEWEST_RIGHT
    assert found.count("bound", "learning_rate") >= FEWEST_RIGHT
    assert found.advised(lambda entry: entry.kind == "bound" and entry.parameter != "learning_rate") <= MOST_FALSE
    assert found.advised(lambda entry: entry.kind not in ("bound", "no_effect", "more_trials")) <= MOST_FALSE


def test_a_category_that_diverges_is_found_and_left_out() -> None:
    found = Found(truths.diverging_category, 800)
    sgd = [[(e.parameter, e.value) for e in told.stability.levels] == [("optimizer", "SGD")] for told in found.findings]
    assert sum(sgd) >= FEWEST_RIGHT
    assert found.count("bound", "optimizer", value="SGD") >= FEWEST_RIGHT
    assert found.first_and_sure("optimizer") >= FEWEST_RIGHT
    assert found.count("fix", "optimizer") == found.count("no_effect") == 0
    assert found.advised(lambda entry: entry.kind == "bound" and entry.parameter != "optimizer") <= MOST_FALSE


def test_where_trials_diverge_at_random_no_parameter_tells_which() -> None:
    found = Found(truths.diverging_at_random, 900, ask=truths.suggest_ten)
    assert sum(bool(t.stability.levels or t.stability.thresholds) for t in found.findings) <= MOST_FALSE
    assert found.count("bound") <= MOST_FALSE


def test_of_everything_at_once_what_is_told_is_true_and_most_is_told() -> None:
    """What stays hidden is not asserted: the rate's own optimum is told in a half of the studies, no more."""
    found = Found(truths.everything, 700)
    assert found.count("bound", "learning_rate") >= FEWEST_RIGHT
    assert found.count("fix", "learning_rate") == 0 and found.count("fix", "width") <= MOST_FALSE
    assert found.widened_but("width", "low") <= MOST_FALSE
    assert found.sure("optimizer") <= MOST_FALSE
    pair = frozenset(("dropout", "batch_size"))
    assert sum(pair in pairs for pairs in found.sure_pairs()) >= SEEDS / 2
    assert sum(bool(pairs - {pair}) for pairs in found.sure_pairs()) <= MOST_FALSE


PRUNERS = pytest.mark.parametrize("pruner", [truths.median, truths.halving], ids=["median", "halving"])


@PRUNERS
def test_where_a_pruner_cuts_most_trials_what_decides_is_found_and_what_is_idle_may_be_fixed(
    pruner: truths.Pruner,
) -> None:
    """The first trials are never cut, whatever their setting, so that being complete alone says little."""
    found = Found(truths.two_decide, 40_000, curve=truths.converged, shake=0.002, pruner=pruner)
    for name in ("learning_rate", "optimizer"):
        assert found.sure(name) >= FEWEST_RIGHT
        assert found.count("fix", name) <= 1
    for name in ("width", "dropout", "batch_size"):
        assert found.sure(name) <= MOST_FALSE
        assert found.count("fix", name) >= FEWEST_RIGHT
    assert found.count("widen") <= MOST_FALSE
    assert found.count("no_effect") <= MOST_FALSE


@PRUNERS
def test_where_nothing_matters_a_pruner_misleads_no_advice(pruner: truths.Pruner) -> None:
    found = Found(truths.nothing, 41_000, curve=truths.converged, shake=0.002, pruner=pruner)
    assert found.advised(lambda entry: entry.kind not in (*HARMLESS, "fewer_epochs")) <= MOST_FALSE
    assert sum(bool(told.model.found) for told in found.findings) <= MOST_FALSE
    assert sum(any(pairs) for pairs in found.sure_pairs()) <= MOST_FALSE


NULL_STUDIES: dict[str, dict[str, Any]] = {
    "by chance": {},
    "by a sampler that learns": {"sampler": "tpe"},
    "a grid": {"sampler": "grid"},
    "ten parameters": {"ask": truths.suggest_ten},
    "ten parameters, twice the trials": {"ask": truths.suggest_ten, "trials": 120},
    "ties": {"shape": truths.rounded},
    "a grid with ties": {"sampler": "grid", "shape": truths.rounded},
    "heavy tails": {"shape": truths.heavy_tailed},
}
HARMLESS = ("no_effect", "more_trials")


@pytest.mark.parametrize("kind", NULL_STUDIES)
def test_where_nothing_matters_nothing_is_advised(kind: str) -> None:
    found = Found(truths.nothing, 1_000 * (1 + [*NULL_STUDIES].index(kind)), **NULL_STUDIES[kind])
    assert found.advised(lambda entry: entry.kind not in HARMLESS) <= MOST_FALSE
    assert found.advised(lambda entry: entry.kind in HARMLESS) >= FEWEST_RIGHT
    assert sum(bool(told.model.found) for told in found.findings) <= MOST_FALSE
    assert sum(any(pairs) for pairs in found.sure_pairs()) <= MOST_FALSE


def test_curves_that_go_on_are_told_to_and_nothing_else() -> None:
    found = Found(truths.nothing, 20_000, curve=truths.going_on, shake=0.02)
    assert found.count("more_epochs") >= FEWEST_RIGHT
    assert found.advised(lambda entry: entry.kind not in (*HARMLESS, "more_epochs")) <= MOST_FALSE


@pytest.mark.parametrize(("shake", "told"), [(0.002, FEWEST_RIGHT), (0.05, 0)])
def test_curves_that_have_converged_are_never_told_to_go_on(shake: float, told: int) -> None:
    """Where noise is a twentieth of the gain, it may stay unsaid that fewer epochs would do."""
    found = Found(truths.nothing, 30_000, curve=truths.converged, shake=shake)
    assert found.count("more_epochs") <= MOST_FALSE
    assert found.count("fewer_epochs") >= told
    assert found.advised(lambda entry: entry.kind not in (*HARMLESS, "fewer_epochs")) <= MOST_FALSE
