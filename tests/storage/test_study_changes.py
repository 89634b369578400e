"""A study asked for with other settings than it was made with (contract C11)."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from making import SEARCH, close, make, space_of

from tuner.errors import StudyChangedError
from tuner.storage.studies import Studies, check_unchanged, differences, version_changes


def changed_spaces() -> list[tuple[dict[str, Any], str]]:
    """A change of what decides the trials, and the line that shows it."""
    wider = SEARCH.replace("high: 1e-1", "high: 0.5")
    fewer = "\n".join(line for line in SEARCH.splitlines() if "momentum" not in line)
    return [
        ({"search": wider}, r"search\.learning_rate\.high: 0\.1 -> 0\.5"),
        ({"search": SEARCH + "batch_size: {choices: [16, 32]}\n"}, r"search\.batch_size\.choices: nothing -> \[16, 32"),
        ({"search": fewer}, r"search\.optimizer_kwargs\.momentum\.low: 0\.5 -> nothing"),
        ({"recipe": {"epochs": 6}}, r"recipe\.epochs: 5 -> 6"),
        ({"recipe": {"model": {"tau": 3.0}}}, r"recipe\.model\.tau: 2\.0 -> 3\.0"),
        ({"recipe": {"early_stopping": {"patience": 3}}}, r"recipe\.early_stopping\.patience: nothing -> 3"),
        ({"sampler": "tpe"}, "sampler: random -> tpe"),
        ({"pruner": "median"}, "pruner: none -> median"),
        ({"pruner": "median", "pruner_kwargs": {"n_warmup_steps": 2}}, r"pruner_kwargs\.n_warmup_steps: nothing -> 2"),
        ({"study_seed": 7}, "study_seed: 0 -> 7"),
        ({"parallel": 4}, "parallel: 1 -> 4"),
        ({"constraints": ["epochs < 9"]}, r"constraints: \[\] -> .*epochs < 9"),
        ({"derived": {"batch_size": "epochs * 2"}}, r"derived\.batch_size: nothing -> epochs \* 2"),
    ]


@pytest.mark.parametrize(("changed", "line"), changed_spaces(), ids=[line for _, line in changed_spaces()])
def test_a_changed_setting_is_shown_and_refused_unless_accepted(tmp_path, changed, line):
    opened = make(tmp_path)
    space = space_of(**{"search": SEARCH, **changed})
    with pytest.raises(StudyChangedError) as caught:
        check_unchanged(opened.study, space, "hash", 1, accept=False)
    message = str(caught.value)
    assert re.search(line, message)
    assert "--accept-changes" in message
    assert "--study" in message
    assert differences(opened.study, space_of(), "hash") == [], "a refusal must change nothing"
    accepted = check_unchanged(opened.study, space, "hash", 1, accept=True)
    assert any(re.search(line, entry) for entry in accepted)
    close(opened)
    again = Studies(tmp_path).load("s")
    assert check_unchanged(again.study, space, "hash", 1, accept=False) == []
    assert differences(again.study, space_of(), "hash") != []
    close(again)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (SEARCH.replace("[Adam, SGD]", "[Adam, SGD, AdamW]"), ["optimizer", "'Adam', 'SGD'", "'AdamW'"]),
        (SEARCH.replace("[5, 3]", "[5, 4]"), ["model.sizes", "[5, 3]", "[5, 4]"]),
        (SEARCH.replace("low: 1e-4, high: 1e-1, log: true", "choices: [0.1]"), ["learning_rate", "[0.1]"]),
    ],
)
@pytest.mark.parametrize("accept", [True, False])
def test_other_choices_cannot_be_accepted_for_optuna_keeps_them(tmp_path, search, words, accept):
    opened = make(tmp_path)
    with pytest.raises(StudyChangedError) as caught:
        check_unchanged(opened.study, space_of(search), "hash", 1, accept=accept)
    assert all(word in str(caught.value) for word in [*words, "--study NEW"])
    assert differences(opened.study, space_of(), "hash") == [], "a refusal must change nothing"
    close(opened)


def test_only_what_differs_is_shown(tmp_path):
    opened = make(tmp_path)
    wider = space_of(SEARCH.replace("high: 1e-1", "high: 0.5"))
    assert differences(opened.study, wider, "hash") == ["search.learning_rate.high: 0.1 -> 0.5"]
    close(opened)


@pytest.mark.parametrize(
    "space",
    [
        space_of(),
        space_of("model.x: {low: 0.1, high: 1.05, step: 0.1}"),
        space_of("model.x: {choices: [{1: 2}, [[1], {a: [null, true]}]]}"),
        space_of(recipe={"model": {"layers": {1: 8, 2: 16}, "bound": math.inf, "words": ["on", None, 1.5]}}),
        space_of(recipe={"optimizer_kwargs": {"betas": [0.9, 0.99]}, "early_stopping": {"patience": 2}}),
        space_of(derived={"batch_size": "epochs * 2"}, constraints=["epochs < 99"], pruner="median"),
    ],
    ids=["plain", "step", "nested choices", "nested recipe", "options", "derived"],
)
def test_the_same_space_has_no_differences_after_reopening(tmp_path, space):
    close(make(tmp_path, space=space))
    again = Studies(tmp_path).load("s")
    assert differences(again.study, space, "hash") == []
    close(again)


def test_the_budget_may_grow_and_is_stored(tmp_path):
    opened = make(tmp_path)
    for budget in ({"trials": 500}, {"trials": 500, "time": "2h"}, {"trials": 500, "stop_without_improvement": 9}):
        assert check_unchanged(opened.study, space_of(**budget), "hash", 1, accept=False) == []
    assert opened.study.user_attrs["budget"] == {"trials": 500, "seconds": None, "stop_without_improvement": 9}
    close(opened)


def test_a_changed_task_is_a_difference(tmp_path):
    opened = make(tmp_path, task_hash="one")
    with pytest.raises(StudyChangedError, match="source file has changed"):
        check_unchanged(opened.study, space_of(), "two", 1, accept=False)
    assert check_unchanged(opened.study, space_of(), "two", 1, accept=True) == ["the task's source file has changed"]
    assert check_unchanged(opened.study, space_of(), "two", 1, accept=False) == []
    close(opened)


def test_other_versions_and_threads_are_told_and_no_difference(tmp_path):
    opened = make(tmp_path)
    assert version_changes(opened.study, 1) == []
    assert version_changes(opened.study, 4) == ["threads 1 -> 4"]
    opened.study.set_user_attr("versions", {**opened.study.user_attrs["versions"], "torch": "1.0"})
    assert [line.startswith("torch 1.0 -> ") for line in version_changes(opened.study, 1)] == [True]
    assert check_unchanged(opened.study, space_of(), "hash", 4, accept=False) == []
    close(opened)
