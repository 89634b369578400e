"""Random and quasi-random points: the same points as ever, in an order that puts equal shapes together."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest
from asking import close, open_study, rows_of, space_of, tell

from tuner.proposing.proposal import Proposal, Proposer, enqueue
from tuner.search_space import SearchSpace

SHAPES = """
learning_rate: {low: 1e-4, high: 1e-1, log: true}
batch_size: {choices: [16, 32]}
model.depth: {low: 1, high: 3}
model.drop: {low: 0.0, high: 0.5, when: {model.depth: [2, 3]}}
"""


def shape_of(recipe: Any) -> str:
    """What of a recipe these tests take for its shape."""
    return json.dumps([recipe.batch_size, recipe.model.get("depth")])


def asked(
    folder: Path,
    space: SearchSpace,
    budget: int | None,
    most: int = 99,
    ordered: bool = True,
    cuts: Collection[int] = (),
) -> list[Proposal]:
    """Ask until `budget` trials count, each told at once, `most` in all; the study is opened anew before some."""
    found: list[Proposal] = []
    opened = open_study(folder, space)
    proposer = Proposer(opened.study, opened.storage, space, shape_of if ordered else None)
    while (budget is None or len(counting(found)) < budget) and len(found) < most:
        if len(found) in cuts:
            close(opened)
            opened = open_study(folder, space)
            proposer = Proposer(opened.study, opened.storage, space, shape_of if ordered else None)
        proposal = proposer.ask(None if budget is None else budget - len(counting(found)))
        assert proposal is not None
        found.append(proposal)
        tell(opened, proposal)
    close(opened)
    return found


def counting(proposals: Iterable[Proposal]) -> list[Proposal]:
    return [entry for entry in proposals if entry.infeasible is None and entry.duplicate_of is None]


def points(proposals: Iterable[Proposal]) -> list[str]:
    return sorted(json.dumps(dict(proposal.values), sort_keys=True) for proposal in proposals)


def lots(proposals: Iterable[Proposal]) -> list[int]:
    """How many trials of one shape follow on one another."""
    return [len(list(found)) for _, found in itertools.groupby(proposals, key=lambda entry: shape_of(entry.recipe))]


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_the_points_are_the_same_and_equal_shapes_follow_on_one_another(tmp_path, sampler):
    space = space_of(SHAPES, sampler)
    drawn = asked(tmp_path / "drawn", space, 40, ordered=False)
    ordered = asked(tmp_path / "ordered", space, 40)
    assert points(ordered) == points(drawn)
    assert len(lots(ordered)) == 6 < 20 < len(lots(drawn))


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_a_search_cut_anywhere_goes_on_alike(tmp_path, sampler):
    space = space_of(SHAPES, sampler)
    whole = asked(tmp_path / "whole", space, 12)
    assert asked(tmp_path / "cut", space, 12, cuts=range(12)) == whole


def test_a_larger_budget_goes_on_with_the_next_draws(tmp_path):
    """5 trials first, then 15 of the next 20: no point is left out or drawn twice."""
    space = space_of(SHAPES)
    found = [*asked(tmp_path / "two", space, 5), *asked(tmp_path / "two", space, 20, most=15)]
    found += asked(tmp_path / "two", space, 5)
    assert points(found) == points(asked(tmp_path / "one", space, 25, ordered=False))


def test_infeasible_draws_do_not_favour_a_shape(tmp_path):
    """Every draw is taken once whatever becomes of it, so what counts is what would count in the draws' own order."""
    space = space_of(SHAPES, constraints=["learning_rate <= 0.01 or model.depth > 1"])
    ordered = asked(tmp_path / "ordered", space, 30)
    drawn = asked(tmp_path / "drawn", space, None, most=len(ordered), ordered=False)
    assert len(ordered) > 30
    assert points(ordered) == points(drawn)


def test_a_queued_trial_takes_no_draw(tmp_path):
    space = space_of(SHAPES)
    opened = open_study(tmp_path / "queued", space)
    enqueue(opened.study, space, {"learning_rate": 0.05, "batch_size": 16, "model.depth": 1}, "file")
    close(opened)
    found = asked(tmp_path / "queued", space, 20)
    assert found[0].values["learning_rate"] == 0.05
    assert points(found[1:]) == points(asked(tmp_path / "drawn", space, 20, ordered=False)[1:])


def test_a_duplicate_is_drawn_again_and_again_and_no_point_is_lost(tmp_path):
    """9 points in all: each is found, and what repeats one is marked."""
    space = space_of("{model.depth: {low: 1, high: 9}, batch_size: {choices: [16]}}")
    found = asked(tmp_path, space, 9, most=60)
    assert sorted(proposal.values["model.depth"] for proposal in counting(found)) == list(range(1, 10))


def test_a_trial_says_which_draw_it_is(tmp_path):
    space = space_of(SHAPES)
    asked(tmp_path, space, 6)
    opened = open_study(tmp_path, space)
    draws = [row[5]["draw"] for row in rows_of(opened.study)]
    close(opened)
    assert sorted(draw["number"] for draw in draws) == list(range(6))
    assert {tuple(draw["block"]) for draw in draws} == {(0, 6)}


def test_blocks_are_bounded(tmp_path, monkeypatch):
    """Where nobody says how many trials there will be, equal shapes are put together within blocks only."""
    monkeypatch.setattr("tuner.proposing.blocks.BLOCK", 10)
    space = space_of(SHAPES)
    found = asked(tmp_path / "ordered", space, None, most=30)
    drawn = asked(tmp_path / "drawn", space, None, most=30, ordered=False)
    for start in (0, 10, 20):
        assert points(found[start : start + 10]) == points(drawn[start : start + 10])
        assert len(lots(found[start : start + 10])) <= 6


def test_qmc_points_asked_for_all_at_once_are_those_of_the_sequence(tmp_path):
    """None has ended when the last is asked for; of the first 16 points each sixteenth holds one."""
    space = space_of("{model.depth: {low: 1, high: 3}, model.x: {low: 0.0, high: 1.0}}", "qmc")
    opened = open_study(tmp_path, space)
    enqueue(opened.study, space, space.default_values()[0], "default recipe")
    proposer = Proposer(opened.study, opened.storage, space, shape_of)
    found = [proposal for number in range(17) if (proposal := proposer.ask(17 - number))][1:]
    close(opened)
    assert sorted(math.floor(proposal.values["model.x"] * 16) for proposal in found) == list(range(16))
    assert len(lots(found)) == 3
