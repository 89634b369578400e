"""Trials of a sampler that learns are asked for in groups of one shape, and all else stays its choice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from asking import close, open_study, rows_of, space_of, tell

from tuner.proposing.groups import paths_of_shape
from tuner.proposing.proposal import Proposal, Proposer, enqueue
from tuner.search_space import SearchSpace

SHAPES = """
learning_rate: {low: 1e-4, high: 1e-1, log: true}
batch_size: {choices: [16, 32, 64]}
model.depth: {low: 1, high: 5}
model.drop: {low: 0.0, high: 0.5, when: {model.depth: [2, 3, 4, 5]}}
"""
LEARNERS = ["tpe", "cmaes", pytest.param("gp", marks=pytest.mark.slow)]


def shape_of(recipe: Any) -> str:
    """What of a recipe these tests take for its shape: all of the model's and the data's options but one."""
    data = {name: value for name, value in recipe.data.items() if name != "fraction"}
    return json.dumps([recipe.batch_size, recipe.model, data], sort_keys=True)


def ask(proposer: Proposer, count: int) -> list[Proposal]:
    found = [proposal for _ in range(count) if (proposal := proposer.ask()) is not None]
    assert len(found) == count
    return found


def search(folder: Path, space: SearchSpace, count: int, width: int, cuts: Collection[int] = ()) -> list[Any]:
    """Ask for trials, `width` in flight, telling the oldest; the study is opened anew before some asks.

    Gives the trial table.
    """
    opened = open_study(folder, space)
    proposer = Proposer(opened.study, opened.storage, space, shape_of, 4)
    flying: list[Proposal] = []
    for number in range(count):
        if number in cuts:
            close(opened)
            opened = open_study(folder, space)
            proposer = Proposer(opened.study, opened.storage, space, shape_of, 4)
        flying += ask(proposer, 1)
        if len(flying) == width:
            tell(opened, flying.pop(0))
    table = rows_of(opened.study)
    close(opened)
    return table


@pytest.mark.parametrize("sampler", LEARNERS)
def test_trials_come_in_groups_of_one_shape_and_differ_in_the_rest(tmp_path, sampler):
    space = space_of(SHAPES, sampler)
    for row in search(tmp_path, space, 5, 1):
        assert "shape_of" not in row[5]  # nothing is in flight beside them
    opened = open_study(tmp_path, space)
    found = ask(Proposer(opened.study, opened.storage, space, shape_of, 4), 12)
    attrs = [row[5] for row in rows_of(opened.study)][5:]
    close(opened)
    groups = [found[start : start + 4] for start in (0, 4, 8)]
    for group in groups:
        assert len({shape_of(proposal.recipe) for proposal in group}) == 1
        assert len({proposal.values["learning_rate"] for proposal in group}) == 4
    openers = [group[0].number for group in groups]
    assert [attr.get("shape_of") for attr in attrs] == [None if i % 4 == 0 else openers[i // 4] for i in range(12)]


def test_a_group_of_which_nothing_is_in_flight_takes_no_more(tmp_path):
    space = space_of(SHAPES, "tpe")
    opened = open_study(tmp_path, space)
    proposer = Proposer(opened.study, opened.storage, space, shape_of, 4)
    first, second = ask(proposer, 2)
    assert shape_of(first.recipe) == shape_of(second.recipe)
    for proposal in (first, second):
        tell(opened, proposal)
    ask(proposer, 2)
    attrs = [row[5] for row in rows_of(opened.study)]
    close(opened)
    assert [attr.get("shape_of") for attr in attrs] == [None, 0, None, 2]


@pytest.mark.parametrize("sampler", LEARNERS)
def test_a_search_cut_anywhere_goes_on_alike(tmp_path, sampler):
    space = space_of(SHAPES, sampler)
    whole = search(tmp_path / "whole", space, 14, 5)
    assert search(tmp_path / "cut", space, 14, 5, cuts=range(14)) == whole


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_without_shapes_everything_is_asked_freely(tmp_path, sampler):
    space = space_of(SHAPES, sampler)
    opened = open_study(tmp_path, space)
    found = ask(Proposer(opened.study, opened.storage, space), 8)
    close(opened)
    assert len({shape_of(proposal.recipe) for proposal in found}) > 4


def test_the_shape_is_what_changes_it_its_conditions_and_what_it_is_derived_from():
    space = space_of(
        "{learning_rate: {low: 1e-3, high: 1e-1}, optimizer: {choices: [Adam, SGD]}, seed: {choices: [1, 2]},"
        " loss_weights.a: {low: 0.1, high: 1.0}, epochs: {choices: [3, 4]}, gradient_clip: {low: 1.0, high: 2.0},"
        " model.wide: {choices: [true, false], when: {optimizer: SGD}}, data.fraction: {low: 0.5, high: 1.0},"
        " data.size: {choices: [8, 16]}}",
        "tpe",
        recipe={"model": {"width": 4}, "loss_weights": {"a": 1.0}},
        derived={"model.width": "seed * 4"},
    )
    assert paths_of_shape(space, shape_of) == ["data.size", "model.wide", "optimizer", "seed"]


def test_a_space_of_shapes_alone_is_asked_freely():
    """Were all values given, a group would be one trial again and again."""
    space = space_of("{batch_size: {choices: [16, 32]}, model.depth: {low: 1, high: 9}}", "tpe")
    assert paths_of_shape(space, shape_of) == []


def test_a_queued_trial_is_tried_as_it_is_and_opens_a_group(tmp_path):
    space = space_of(SHAPES, "tpe")
    opened = open_study(tmp_path, space)
    queued = {"learning_rate": 0.05, "batch_size": 32, "model.depth": 1}
    proposer = Proposer(opened.study, opened.storage, space, shape_of, 4)
    ask(proposer, 2)
    enqueue(opened.study, space, queued, "file")
    third, fourth = ask(proposer, 2)
    close(opened)
    assert third.values == queued
    assert shape_of(fourth.recipe) == shape_of(third.recipe)
    assert fourth.values["learning_rate"] != 0.05


def test_every_cell_is_found_where_a_shape_has_fewer_than_a_group(tmp_path):
    """Two cells a shape: a group that finds nothing new takes another shape rather than a duplicate."""
    space = space_of("{optimizer: {choices: [Adam, SGD]}, model.depth: {low: 1, high: 6}}", "tpe")
    opened = open_study(tmp_path, space)
    proposer, cells, fruitless = Proposer(opened.study, opened.storage, space, shape_of, 4), Counter(), 0
    while not proposer.exhausted(12):
        (proposal,) = ask(proposer, 1)
        fruitless += proposal.duplicate_of is not None
        cells[json.dumps(dict(proposal.values), sort_keys=True)] += 1
        assert fruitless < 30
    close(opened)
    assert len(cells) == 12
    assert fruitless <= 6


def test_infeasible_proposals_are_marked_within_groups_too(tmp_path):
    space = space_of(SHAPES, "tpe", constraints=["learning_rate <= 0.01 or model.depth > 2"])
    table = search(tmp_path, space, 40, 8)
    marked = [row[2]["learning_rate"] > 0.01 and row[2]["model.depth"] <= 2 for row in table]
    assert ["infeasible" in row[5] for row in table] == marked
    assert any(marked)


def test_cmaes_with_margin_keeps_its_own_draws(tmp_path):
    space = space_of(SHAPES, "cmaes", sampler_kwargs={"with_margin": True, "n_startup_trials": 1})
    assert not any("shape_of" in row[5] for row in search(tmp_path, space, 12, 4))


def test_groups_stay_full_over_a_search(tmp_path):
    """Eight in flight: most share their shape with another, though places come free one at a time."""
    table = search(tmp_path, space_of(SHAPES, "tpe"), 60, 8)
    sizes = Counter(row[5].get("shape_of", row[0]) for row in table)
    assert sum(sizes.values()) / len(sizes) > 3
    assert max(sizes.values()) == 4


@pytest.mark.slow
def test_tpe_still_learns_in_groups(tmp_path):
    """A bowl in the rate and the depth: late proposals are nearer to its bottom than random ones, in shape and rest."""
    space = space_of("{model.x: {low: 0.0, high: 1.0}, learning_rate: {low: 0.01, high: 1.01}}", "tpe")

    def distance(proposal: Proposal) -> float:
        return abs(proposal.values["model.x"] - 0.3) + abs(proposal.values["learning_rate"] - 0.71)

    opened = open_study(tmp_path, space)
    proposer, flying, found = Proposer(opened.study, opened.storage, space, shape_of, 2), [], []
    for _ in range(60):
        flying += ask(proposer, 1)
        if len(flying) == 4:
            found.append(flying.pop(0))
            opened.study.tell(found[-1].number, distance(found[-1]))
    close(opened)
    assert sum(map(distance, found[-20:])) / 20 < 0.35  # random ones: 0.55 on average
