"""Which of an earlier study's trials a new space would make itself, and what is tried of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from asking import MIXED, close, open_study, proposer_of, run, space_of, tell
from optuna.trial import FrozenTrial, TrialState

from tuner.proposing.earlier import find_earlier
from tuner.search_space import SearchSpace


@pytest.fixture
def earlier(tmp_path: Path) -> Any:
    """The trials of a study that asks a space `count` times."""

    def trials(space: SearchSpace, count: int = 20) -> list[FrozenTrial]:
        run(tmp_path, space, count)
        opened = open_study(tmp_path, space)
        found = opened.study.get_trials()
        close(opened)
        return found

    return trials


def test_a_space_takes_over_all_that_it_made_itself(earlier) -> None:
    """Conditions, choices that are lists, steps and derived values: every recipe is made again."""
    space = space_of(MIXED, derived={"model.width": "model.depth * 4"})
    trials = earlier(space)
    found = find_earlier(trials, space, maximize=False)
    assert not found.others and not found.queued
    assert [setting.trial.value for setting in found.taken] == sorted(trial.value for trial in trials)
    for setting in found.taken:
        was = setting.trial
        assert (setting.params, setting.distributions) == (was.params, was.distributions)
        assert setting.recipe.model_dump() == was.user_attrs["recipe"]
        assert setting.values == was.user_attrs["values"]


def test_only_recipes_within_the_new_space_are_taken_over(earlier) -> None:
    trials = earlier(space_of(MIXED))
    narrow = space_of(MIXED.replace("model.depth: {low: 1, high: 6}", "model.depth: {low: 2, high: 4}"))
    found = find_earlier(trials, narrow, maximize=True)
    inside = [trial for trial in trials if 2 <= trial.params["model.depth"] <= 4]
    assert {setting.trial.number for setting in found.taken} == {trial.number for trial in inside}
    assert found.others == {"with model.depth out of range": len(trials) - len(inside)}
    assert [setting.trial.value for setting in found.taken] == sorted((t.value for t in inside), reverse=True)


def test_a_value_that_is_fixed_now_may_be_the_one_it_had(earlier) -> None:
    trials = earlier(space_of("learning_rate: {choices: [0.1, 0.01]}\nmodel.depth: {low: 1, high: 3}"), 6)
    fixed = space_of("learning_rate: {low: 1e-3, high: 1.0}", recipe={"model": {"depth": 2}})
    found = find_earlier(trials, fixed, maximize=False)
    same = [trial for trial in trials if trial.params["model.depth"] == 2]
    assert {setting.trial.number for setting in found.taken} == {trial.number for trial in same}
    assert found.others == {"with another value of model.depth (now 2)": len(trials) - len(same)}
    for setting in found.taken:
        assert setting.params == {"learning_rate": setting.trial.params["learning_rate"]}


def test_a_new_derivation_makes_other_recipes(earlier) -> None:
    search = "model.depth: {low: 1, high: 30}"
    trials = earlier(space_of(search, derived={"model.width": "model.depth * 4"}), 6)
    found = find_earlier(trials, space_of(search, derived={"model.width": "model.depth * 5"}), maximize=False)
    assert not found.taken
    assert len(found.queued) == 5
    assert all(setting.recipe.model["width"] == setting.recipe.model["depth"] * 5 for setting in found.queued)


def test_what_breaks_a_new_constraint_is_neither_taken_nor_tried(earlier) -> None:
    search = "model.depth: {low: 1, high: 30}"
    trials = earlier(space_of(search), 8)
    found = find_earlier(trials, space_of(search, constraints=["model.depth <= 10"]), maximize=False)
    assert {setting.values["model.depth"] <= 10 for setting in [*found.taken, *found.queued]} <= {True}
    beyond = sum(trial.params["model.depth"] > 10 for trial in trials)
    assert found.others == {"against the constraint model.depth <= 10": beyond}


def test_settings_are_moved_to_the_nearest_of_the_new_space(earlier) -> None:
    trials = earlier(space_of("learning_rate: {low: 1e-4, high: 1e-1, log: true}"), 6)
    found = find_earlier(trials, space_of("learning_rate: {low: 1.0, high: 2.0}"), maximize=False)
    assert [dict(setting.values) for setting in found.queued] == [{"learning_rate": 1.0}]
    known = [setting.key for setting in found.queued]
    again = find_earlier(trials, space_of("learning_rate: {low: 1.0, high: 2.0}"), maximize=False, known=known)
    assert not again.queued


def test_duplicates_and_what_has_not_ended_are_left_out(tmp_path) -> None:
    space = space_of("model.depth: {low: 1, high: 4}")
    opened = open_study(tmp_path, space)
    proposer = proposer_of(opened, space)
    first, second = proposer.ask(), proposer.ask()
    assert first is not None and second is not None
    tell(opened, first)
    found = find_earlier(opened.study.get_trials(), space, maximize=False)
    assert [setting.trial.number for setting in found.taken] == [first.number]
    assert found.others == {"still in flight": 1}
    assert opened.study.trials[second.number].state == TrialState.RUNNING
    close(opened)


@pytest.mark.parametrize("whole", [True, False])
def test_searched_timelines_are_found_again(earlier, whole: bool) -> None:
    """Whole ones, and single keys of one, which a recipe has written out."""
    first = [{"STEP": 0, "learning_rate": 0.1}, {"STEP": 500, "learning_rate": 0.01}]
    second = [{"STEP": 0, "learning_rate": 0.2}, {"STEP": 500, "learning_rate": 0.02}]
    if whole:
        choices = [{"name": "first", "keyframes": first}, {"name": "second", "keyframes": second}]
        space = space_of(f"timeline: {{choices: {choices}}}")
    else:
        search = "timeline.learning_rate@500: {low: 1e-3, high: 1e-1, log: true}"
        space = space_of(search, recipe={"timeline": {"keyframes": first}})
    trials = [trial for trial in earlier(space, 6) if "duplicate_of" not in trial.user_attrs]
    found = find_earlier(trials, space, maximize=False)
    assert {setting.trial.number for setting in found.taken} == {trial.number for trial in trials}
    assert len(trials) == (2 if whole else 6)
