"""Advice on overfitting, pruning, and how many trials there are to be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from advised import AT, COUNT, NOISE, OTHER, RATE, of_kind, one, study
from scipy import stats

from tuner.analysis import StudyData, analyze_data
from tuner.analysis.ends import largest_correlation
from tuner.storage.records import Records
from tuner.storage.studies import WARM_START


def gapped(gaps: np.ndarray, validation: float = 0.5, **more: Any) -> Records:
    notes = {"gap": [float(gap) for gap in gaps], "final_val_loss": [validation] * COUNT}
    return study(RATE | OTHER | more.pop("search", {}), NOISE, notes=notes, **more)


def test_a_large_gap_of_the_best_trial_is_told_with_what_goes_with_it() -> None:
    told = one(gapped(0.2 + 0.1 * AT, places={"width": AT}), "overfits")
    best = 0.2 + 0.1 * AT[int(np.argmax(NOISE))]
    assert told.evidence["gap"] == pytest.approx(best) and told.evidence["relative"] == pytest.approx(best / 0.5)
    assert "the gap is larger at higher width" in told.why
    assert "dropout" in told.do and "weight decay" in told.do
    searched = gapped(np.full(COUNT, 0.2), search={"model.dropout": {"low": 0.0, "high": 0.5}})
    assert "dropout" not in one(searched, "overfits").do
    assert not of_kind(gapped(np.full(COUNT, 0.01)), "overfits")
    assert not of_kind(gapped(np.full(COUNT, 0.2), validation=5.0), "overfits")


def cut(early_tells: bool, seed: int = 5, count: int = COUNT, loose: float = 0.0) -> Records:
    """Every third trial is pruned at epoch 3 of 10; `loose` is the deviation of values there from final ones, of 1."""
    random = np.random.default_rng(seed)
    final = random.normal(size=count)
    early = (final if early_tells else 0) + (loose if early_tells else 1.0) * random.normal(size=count)
    states = ["PRUNED" if place % 3 == 0 else "COMPLETE" for place in range(count)]
    curves = []
    for place in range(count):
        at_three = early[place] - (1.5 if states[place] == "PRUNED" else 0)
        curve = np.linspace(at_three - 0.2, at_three, 3).tolist()
        curves.append(
            curve if states[place] == "PRUNED" else [*curve, *np.linspace(at_three, final[place], 7).tolist()]
        )
    return study(RATE | OTHER, final, states=states, curves=curves)


def test_pruning_by_early_values_that_say_nothing_comes_too_early() -> None:
    told = one(cut(early_tells=False, count=300), "prune_later")
    assert told.evidence["epoch"] == 3 and told.evidence["agreement"] < told.evidence["most"] < 0.3
    assert "prune later than epoch 3" in told.do
    assert told.why.startswith("among the trials that went on, ") and "rank correlation" in told.why
    assert not of_kind(cut(early_tells=True), "prune_later")


@pytest.mark.parametrize(("pruned", "told"), [(0, False), (15, False), (30, False), (33, True), (40, True)])
def test_where_nearly_all_are_pruned_more_are_to_end(pruned: int, told: bool) -> None:
    states = ["PRUNED"] * pruned + ["COMPLETE"] * (40 - pruned)
    curves = [[1.0, 2.0] if state == "PRUNED" else [1.0, 2.0, 3.0] for state in states]
    found = of_kind(study(RATE, list(AT[:40]), states=states, curves=curves), "prune_less")
    assert [entry.evidence for entry in found] == [{"pruned": pruned, "complete": 40 - pruned}] * told


def test_of_few_trials_it_is_seldom_said_that_pruning_comes_too_early_where_it_does_not() -> None:
    """Values that go with final ones at a rank correlation of 0.3 or more, over 12 complete trials."""
    assert (
        sum(bool(of_kind(cut(early_tells=True, loose=3.0, seed=k, count=18), "prune_later")) for k in range(100)) <= 8
    )


@pytest.mark.parametrize(("rho", "count"), [(0.3, 8), (0.3, 30), (0.7, 15), (-0.5, 12)])
def test_a_rank_correlation_is_below_its_bound_in_19_of_20_samples(rho: float, count: int) -> None:
    random = np.random.default_rng(8)
    true, held = 6 / math.pi * math.asin(rho / 2), 0
    for _ in range(1000):
        first, second = random.multivariate_normal([0, 0], [[1, rho], [rho, 1]], count).T
        held += true <= largest_correlation(float(stats.spearmanr(first, second).statistic), count)
    assert 925 <= held <= 985


@pytest.mark.parametrize("steps", [1, 100])
def test_pruning_is_judged_at_a_step_that_was_reported(steps: int) -> None:
    """Of trials pruned at the third and the fourth report, the middle lies between."""
    records = cut(early_tells=True)
    pruned = [number for number, state in enumerate(records.states) if state == "PRUNED"]
    more = pd.DataFrame([(number, 4, -5.0) for number in pruned[::2]], columns=["trial", "step", "value"])
    reports = pd.concat([records.reports, more]).sort_values(["trial", "step"], ignore_index=True)
    ends = analyze_data(StudyData(replace(records, reports=reports.assign(step=reports["step"] * steps)))).ends
    assert len(pruned) % 2 == 0 and ends.at == 3 * steps
    assert ends.agreement == pytest.approx(1.0)


def test_where_nothing_matters_something_else_is_to_be_searched() -> None:
    told = one(study(RATE | OTHER, NOISE), "no_effect")
    assert told.evidence == {"trials": COUNT, "parameters": 2}
    assert not of_kind(study(RATE | OTHER, AT + 0.1 * NOISE, places={"learning_rate": AT}), "no_effect")
    assert not of_kind(study(RATE | OTHER, NOISE[:15]), "no_effect")


def test_few_trials_for_many_parameters_ask_for_more() -> None:
    told = one(study(RATE | OTHER, NOISE[:15]), "more_trials")
    assert told.evidence == {"trials": 15, "parameters": 2, "needed": 20}
    assert told.change is not None and told.change.trials == 20
    assert not of_kind(study(RATE | OTHER, NOISE), "more_trials")
    assert not of_kind(study(RATE | OTHER, NOISE[:15], space={"sampler": "grid"}), "more_trials")


@pytest.mark.parametrize("count", [3, 9])
def test_the_smallest_studies_are_told_to_go_on(count: int) -> None:
    told = one(study(RATE | OTHER, list(AT[:count])), "more_trials")
    assert told.evidence == {"trials": count, "parameters": 2, "needed": 20}


def test_what_was_taken_over_counts_towards_no_number_of_trials() -> None:
    earlier = [{"study": "before", "trial": 0}] * 4 + [None] * 2
    told = one(study(RATE | OTHER, list(AT[:6]), notes={WARM_START: earlier}), "more_trials")
    assert told.evidence == {"trials": 6, "parameters": 2, "needed": 16} and "go on to 16 trials" in told.do


def test_a_study_that_confirms_another_needs_no_more_trials() -> None:
    records = study(RATE | OTHER, list(AT[:6]))
    confirming = replace(records, attributes={**records.attributes, "confirms": "before"})
    assert not of_kind(confirming, "more_trials")
