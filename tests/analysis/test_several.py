"""Studies side by side."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from timed import Told, in_turn, study_of

from tuner.analysis import StudyData
from tuner.analysis.confirmation import Candidate, Confirmation, SeedRun
from tuner.analysis.several import Several, compare_studies
from tuner.analysis.significance import LevelMean
from tuner.errors import UsageError


def space(**more: object) -> dict[str, object]:
    return {"space": {"task": "t", "metric": "val_accuracy", "value": "best", "recipe": {}, "search": {}, **more}}


def confirmed(study: str, values: dict[int, float], test: dict[int, float] | None = None) -> Confirmation:
    """Trial 0 of a study over fresh seeds."""
    runs = tuple(
        SeedRun(seed, place, "complete", value, {"test_accuracy": test[seed]} if test else {})
        for place, (seed, value) in enumerate(values.items())
    )
    mean = LevelMean(len(values), float(np.mean(list(values.values()))), None, None)
    best = Candidate(0, 0.9, runs, mean, mean, 0.0, None)
    metric = "test_accuracy" if test else None
    return Confirmation(study, f"{study}-confirm", "val_accuracy", metric, "maximize", (best,), 0, None, None, 0)


def test_a_long_study_is_compared_with_a_short_one_at_equal_trials() -> None:
    short, long = in_turn("short", [0.5, 0.8]), in_turn("long", [0.5, 0.6, 0.7, 0.9])
    found = compare_studies([short, long])
    shared = [point for point in found.by_trials if point.shared]
    assert (shared[-1].at, shared[-1].values, shared[-1].ahead) == (2, (0.8, 0.6), "short")
    last = found.by_trials[-1]
    assert (last.at, last.values, last.ahead, last.shared) == (4, (None, 0.9), None, False)


def test_which_is_ahead_can_differ_by_time() -> None:
    quick, slow = in_turn("quick", [0.1, 0.2, 0.3, 0.9], seconds=1), in_turn("slow", [0.5, 0.6], seconds=10)
    found = compare_studies([quick, slow])
    assert [point.ahead for point in found.by_trials if point.shared][-1] == "slow"
    shared = [point for point in found.by_seconds if point.shared][-1]
    assert (shared.at, shared.values, shared.ahead) == (4, (0.9, None), "quick")


def test_equal_bests_are_nobodys_lead() -> None:
    found = compare_studies([in_turn("a", [0.5, 0.8]), in_turn("b", [0.8, 0.1])])
    assert found.by_trials[-1].ahead is None
    assert found.by_trials[-1].shared


def test_a_study_that_has_not_begun_can_stand_beside_another() -> None:
    found = compare_studies([in_turn("a", [0.5]), in_turn("b", [])])
    assert (found.by_trials, found.by_seconds, found.settings) == ((), (), ())
    assert found.unconfirmable == ("a", "b")


def test_top_trials_have_a_mean_and_a_deviation() -> None:
    found = compare_studies([in_turn("a", [0.1, 0.5, 0.8, 0.9]), in_turn("b", [0.8])], top=3)
    first, second = found.sides
    assert (first.top, first.mean) == (3, pytest.approx(np.mean([0.5, 0.8, 0.9])))
    assert first.deviation == pytest.approx(np.std([0.5, 0.8, 0.9], ddof=1))
    assert (second.top, second.mean, second.deviation) == (1, 0.8, None)


def test_only_settings_that_differ_are_told() -> None:
    recipes = [{"epochs": 5, "model": {"width": width}, "learning_rate": 0.1} for width in (8, 16)]
    recipes[1] |= {"optimizer_kwargs": {"momentum": 0.9}}
    pair = [study_of(n, [Told(0.5, 0, 1, attrs={"recipe": recipe})]) for n, recipe in zip("ab", recipes, strict=True)]
    found = compare_studies(pair)
    assert {entry.parameter: entry.values for entry in found.settings} == {
        "model.width": {"a": 8, "b": 16},
        "optimizer_kwargs.momentum": {"b": 0.9},
    }
    assert found.unconfirmed == ("a", "b")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"maximize": False}, "'a' has value, maximized, 'b' has value, minimized"),
        (space(), "'a' has value, maximized, 'b' has val_accuracy, maximized"),
    ],
)
def test_other_metrics_and_directions_are_refused(other: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match="cannot be compared") as refused:
        compare_studies([in_turn("a", [0.5]), in_turn("b", [0.5], **other)])
    assert words in str(refused.value)


def test_a_study_is_not_compared_with_itself() -> None:
    with pytest.raises(UsageError, match="with itself"):
        compare_studies([in_turn("a", [0.5]), in_turn("b", [0.5]), in_turn("a", [0.5])])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (space(task="u"), "different tasks"),
        (space(recipe={"data": {"path": "x"}}), r"different data \(data.path\)"),
        ({**space(), "task_hash": "1"}, "source file"),
        (space(value="last"), "not the same epoch"),
    ],
)
def test_what_makes_a_comparison_uneven_is_said(other: dict[str, object], words: str) -> None:
    found = compare_studies([in_turn("a", [0.5], **space()), in_turn("b", [0.5], **other)])
    assert len(found.notes) == 1
    assert re.search(words, found.notes[0])


def pair_of(first: Confirmation, second: Confirmation | None, **other: object) -> Several:
    studies = [in_turn("a", [0.5], **space()), in_turn("b", [0.5], **space(**other))]
    return compare_studies(studies, confirmed=[first, second])


A = {1000: 0.90, 1001: 0.91, 1002: 0.93, 1003: 0.90}
B = {1000: 0.91, 1001: 0.93, 1002: 0.94, 1003: 0.92}


def test_confirmed_studies_are_tested_in_pairs_of_seeds() -> None:
    (found,) = pair_of(confirmed("a", A), confirmed("b", B)).differences
    truth = stats.ttest_rel(list(A.values()), list(B.values()))
    assert (found.tested.test, found.better, found.split) == ("paired t", "b", "validation")
    assert found.tested.p == pytest.approx(truth.pvalue)
    assert found.p_adjusted == found.tested.p


def test_other_data_are_tested_without_pairs() -> None:
    (found,) = pair_of(confirmed("a", A), confirmed("b", B), recipe={"data": {"path": "x"}}).differences
    truth = stats.ttest_ind(list(A.values()), list(B.values()), equal_var=False)
    assert found.tested.test == "Welch's t"
    assert found.tested.p == pytest.approx(truth.pvalue)


def test_the_test_split_decides_where_both_have_it() -> None:
    swapped = pair_of(confirmed("a", A, test=B), confirmed("b", B, test=A))
    assert (swapped.differences[0].split, swapped.differences[0].better) == ("test", "a")
    assert swapped.differences[0].metric == "test_accuracy"
    alone = pair_of(confirmed("a", A, test=B), confirmed("b", B))
    assert (alone.differences[0].split, alone.differences[0].better) == ("validation", "b")


def test_three_studies_are_three_pairs_adjusted_together() -> None:
    studies = [in_turn(name, [0.5], **space()) for name in "abc"]
    third = {seed: value - 0.05 for seed, value in B.items()} | {1000: 0.85}
    told = [confirmed("a", A), confirmed("b", B), confirmed("c", third)]
    found = compare_studies(studies, confirmed=told).differences
    assert [(entry.first, entry.second) for entry in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    smallest = min(found, key=lambda entry: entry.tested.p or 1)
    assert smallest.p_adjusted == pytest.approx(3 * (smallest.tested.p or 1))


def test_one_that_is_not_confirmed_is_not_tested() -> None:
    assert pair_of(confirmed("a", A), None).differences == ()


def grouped(taken_over: bool = False) -> tuple[list[StudyData], list[list[float]]]:
    random = np.random.default_rng(0)
    values = [random.normal(mean, 0.1, 6).tolist() for mean in (0.5, 0.7)]
    studies = []
    for name, side in zip("ab", values, strict=True):
        trials = [
            Told(v, n, n + 1, {"rate": [0.1, 0.2][n % 2], "seed": n}, {"gap": v / 10}) for n, v in enumerate(side)
        ]
        if taken_over and name == "b":
            trials.insert(0, Told(99.0, 0, 1, {"rate": 0.1, "seed": 9}, {"warm_start": {"study": "a", "trial": 0}}))
        studies.append(study_of(name, trials))
    return studies, values


def test_studies_are_levels_to_group_by_paired_by_seed() -> None:
    studies, values = grouped()
    groups = compare_studies(studies, by="study").groups
    assert groups is not None
    assert [(level.value, len(level.trials)) for level in groups.levels] == [("a", 6), ("b", 6)]
    assert groups.paired_by == ("rate", "seed")
    results = {entry.measure: entry.tested.p for entry in groups.comparisons}
    assert results["value"] == pytest.approx(stats.ttest_rel(*values).pvalue)
    assert results["gap"] == pytest.approx(stats.ttest_rel(*(np.array(values) / 10)).pvalue)


def test_levels_of_a_parameter_are_those_of_all_studies_together() -> None:
    studies, values = grouped()
    found = compare_studies(studies, by="rate")
    assert found.groups is not None
    assert found.first_trials == {"a": 0, "b": 6}
    assert [len(level.trials) for level in found.groups.levels] == [6, 6]
    sides = [[side[n] for side in values for n in range(6) if n % 2 == odd] for odd in (0, 1)]
    means = next(entry for entry in found.groups.comparisons if entry.measure == "value").levels
    assert [level.mean for level in means] == pytest.approx([np.mean(side) for side in sides])


def test_trials_taken_over_are_no_result_of_the_later_study() -> None:
    studies, _ = grouped(taken_over=True)
    groups = compare_studies(studies, by="study").groups
    assert groups is not None
    assert [len(level.trials) for level in groups.levels] == [6, 6]


def test_a_parameter_that_one_study_had_fixed_is_its_recipes() -> None:
    searched = study_of("a", [Told(0.5, n, n + 1, {"optimizer": o}) for n, o in enumerate(["Adam", "SGD"] * 3)])
    fixed = study_of(
        "b",
        [Told(0.5 + n / 10, n, n + 1, {"x": n}) for n in range(3)],
        space={"recipe": {"optimizer": "SGD"}, "metric": "value"},
    )
    groups = compare_studies([searched, fixed], by="optimizer").groups
    assert groups is not None
    assert {level.value: len(level.trials) for level in groups.levels} == {"Adam": 3, "SGD": 6}


def test_studies_of_one_name_in_two_folders_are_told_by_their_paths(tmp_path) -> None:
    pair = [in_turn("a", [0.5]), in_turn("a", [0.6])]
    placed = [
        StudyData(replace(data.records, files=tmp_path / folder / "a")) for data, folder in zip(pair, "xy", strict=True)
    ]
    names = [entry.name for entry in compare_studies(placed).studies]
    assert names == [str(tmp_path / folder / "a") for folder in "xy"]
