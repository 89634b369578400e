"""Proposals: new, feasible, a function of seed, number and records, and made again after a crash."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
import pytest
from asking import MIXED, close, open_study, proposer_of, run, space_of, table, tell
from killing import Killed, kill_at
from optuna.trial import TrialState

from tuner.errors import SearchSpaceError
from tuner.proposing.proposal import Proposal, check_enqueued, enqueue
from tuner.search_space import SearchSpace

FINITE = """
optimizer: {choices: [Adam, SGD]}
optimizer_kwargs.momentum: {choices: [0.5, 0.95], when: {optimizer: SGD}}
model.depth: {low: 1, high: 3}
"""
FEW = "{model.a: {choices: [1, 2]}, model.b: {choices: [x, y]}}"
SAMPLERS = ["random", "tpe", "gp", "cmaes", "qmc"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_six_proposals_of_every_sampler_are_valid_and_recorded(tmp_path, sampler):
    space = space_of(sampler=sampler)
    proposals = run(tmp_path, space, 6)
    assert [proposal.number for proposal in proposals] == list(range(6))
    for proposal, row in zip(proposals, table(tmp_path), strict=True):
        values, recipe = proposal.values, proposal.recipe
        assert 1e-4 <= values["learning_rate"] <= 1e-1
        assert values["model.sizes"] in ([3, 3], [5, 3], [5, 5])
        assert values["model.depth"] in range(1, 7)
        assert ("optimizer_kwargs.momentum" in values) == (values["optimizer"] == "SGD")
        assert {path: recipe.flat()[path] for path in values} == values
        assert row[1] == TrialState.COMPLETE
        assert set(row[2]) == set(values)
        assert row[2]["learning_rate"] == values["learning_rate"]
        assert row[2]["optimizer"] == values["optimizer"]
        assert row[5]["recipe"] == json.loads(recipe.model_dump_json())
    assert len({json.dumps(dict(proposal.values), sort_keys=True) for proposal in proposals}) == 6


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_depend_on_seed_number_and_records_alone(tmp_path, sampler):
    first = run(tmp_path / "a", space_of(sampler=sampler), 4)
    again = run(tmp_path / "b", space_of(sampler=sampler), 4, reopen=True)
    assert [proposal.values for proposal in again] == [proposal.values for proposal in first]
    assert table(tmp_path / "a") == table(tmp_path / "b")
    other = run(tmp_path / "c", space_of(sampler=sampler, study_seed=1), 3)
    assert all(one.values != two.values for one, two in zip(first, other, strict=False))


def test_several_in_flight_differ_and_come_again(tmp_path):
    """A constant liar must not propose one point to all that run at once, whoever asks."""
    asked = []
    for name in ("a", "b"):
        space = space_of(sampler="tpe")
        run(tmp_path / name, space, 4)
        opened = open_study(tmp_path / name, space)
        proposer = proposer_of(opened, space)
        asked.append([proposer.ask().values for _ in range(3)])
        close(opened)
    assert asked[0] == asked[1]
    assert len({json.dumps(values, sort_keys=True) for values in asked[0]}) == 3


def asked(folder: Path, space: SearchSpace, kill: bool = False) -> Proposal | None:
    """Ask within a transaction, as a search does; `kill` at its commit."""
    opened = open_study(folder, space)
    if kill:
        kill_at(opened.storage.engine, 0)
    try:
        with opened.storage.transaction():
            return proposer_of(opened, space).ask()
    finally:
        close(opened)


@pytest.mark.parametrize(
    ("sampler", "before"),
    [
        ("random", 0),
        *((name, 4) for name in ("random", "tpe", "cmaes", "qmc", "grid")),
        pytest.param("gp", 4, marks=pytest.mark.slow),
    ],
)
def test_a_proposal_killed_at_its_commit_leaves_nothing_and_is_made_again(tmp_path, sampler, before):
    space = space_of(FINITE if sampler == "grid" else MIXED, sampler)
    run(tmp_path / "killed", space, before)
    shutil.copytree(tmp_path / "killed", tmp_path / "whole")
    recorded = table(tmp_path / "killed")
    for _ in range(2):
        with pytest.raises(Killed):
            asked(tmp_path / "killed", space, kill=True)
        assert table(tmp_path / "killed") == recorded
    assert asked(tmp_path / "killed", space) == asked(tmp_path / "whole", space)
    assert table(tmp_path / "killed") == table(tmp_path / "whole")
    assert len(table(tmp_path / "whole")) == before + 1


def test_several_proposals_of_one_transaction_are_those_of_several(tmp_path):
    space = space_of(sampler="tpe")
    proposals = []
    for name in ("one", "several"):
        run(tmp_path / name, space, 4)
        opened = open_study(tmp_path / name, space)
        proposer = proposer_of(opened, space)
        with opened.storage.transaction() if name == "one" else nullcontext():
            proposals.append([proposer.ask() for _ in range(3)])
        close(opened)
    assert proposals[0] == proposals[1]
    assert table(tmp_path / "one") == table(tmp_path / "several")


def test_an_enqueued_proposal_killed_at_its_commit_waits_and_is_made_again(tmp_path):
    space = space_of()
    values = check_enqueued(space, {"optimizer": "Adam", "learning_rate": 0.05, "model.sizes": [5, 5]}, "file")[0]
    opened = open_study(tmp_path, space)
    enqueue(opened.study, space, values, "by hand")
    close(opened)
    with pytest.raises(Killed):
        asked(tmp_path, space, kill=True)
    assert [row[1] for row in table(tmp_path)] == [TrialState.WAITING]
    proposal = asked(tmp_path, space)
    assert (proposal.number, proposal.values) == (0, values)
    assert [row[1] for row in table(tmp_path)] == [TrialState.RUNNING]


def test_a_started_proposal_is_given_again_whole(tmp_path):
    space = space_of()
    proposal = asked(tmp_path, space)
    opened = open_study(tmp_path, space)
    (running,) = opened.storage.adopt(opened.study._study_id)
    assert proposer_of(opened, space).again(running) == proposal
    close(opened)


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_something_new_is_found_where_there_is_something_new(tmp_path, sampler):
    """Two values: the second proposal is the other one, but for a chance of 1 in 2 million."""
    for seed in range(3):
        space = space_of("model.a: {choices: [1, 2]}", sampler, study_seed=seed)
        first, second = run(tmp_path / str(seed), space, 2)
        assert {first.values["model.a"], second.values["model.a"]} == {1, 2}
        assert second.duplicate_of is None


def test_a_duplicate_is_asked_again_twenty_times_and_then_marked(tmp_path, monkeypatch):
    space = space_of("model.a: {choices: [1, 2]}")
    run(tmp_path, space, 2)
    asked = []
    suggest = SearchSpace.suggest
    monkeypatch.setattr(SearchSpace, "suggest", lambda self, trial: asked.append(1) or suggest(self, trial))
    third = run(tmp_path, space, 1)[0]
    assert 21 <= len(asked) <= 22
    rows = table(tmp_path)
    original = next(row[0] for row in rows if row[2] == third.values)
    assert third.duplicate_of == original
    assert rows[2][5]["duplicate_of"] == original
    assert [("duplicate_of" in row[5]) for row in rows] == [False, False, True]
    assert run(tmp_path, space, 1)[0].duplicate_of in (0, 1)


def test_recipes_that_are_equal_by_a_default_are_duplicates(tmp_path):
    """Adam's learning rate of null is 0.001."""
    space = space_of("learning_rate: {choices: [null, 0.001]}")
    first, second = run(tmp_path, space, 2)
    assert second.duplicate_of == first.number


def test_steps_that_a_person_would_call_equal_are_not_tried_twice(tmp_path):
    """The default 0.3 and a sampled 0.30000000000000004 are one cell."""
    space = space_of("model.drop: {low: 0.1, high: 1.0, step: 0.1}", recipe={"model": {"drop": 0.3}})
    opened = open_study(tmp_path, space)
    for value in (0.3, 0.6, 0.7):
        enqueue(opened.study, space, {"model.drop": value}, "file")
    proposer = proposer_of(opened, space)
    tried: list[float] = []
    for _ in range(40):
        proposal = proposer.ask()
        tell(opened, proposal)
        if proposal.duplicate_of is None:
            tried.append(proposal.values["model.drop"])
        if proposer.exhausted(space.size()):
            break
    close(opened)
    assert sorted(round(value, 6) for value in tried) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def test_infeasible_proposals_are_marked_with_their_constraint(tmp_path):
    space = space_of("model.a: {low: 1, high: 20}", constraints=["model.a <= 10"])
    opened = open_study(tmp_path, space)
    proposer = proposer_of(opened, space)
    found = {}
    for _ in range(60):
        proposal = proposer.ask()
        tell(opened, proposal)
        assert (proposal.infeasible == "model.a <= 10") == (proposal.values["model.a"] > 10)
        if proposal.duplicate_of is None and proposal.infeasible is None:
            found[proposal.values["model.a"]] = proposal.number
        if proposer.exhausted(space.size()):
            break
    close(opened)
    assert sorted(found) == list(range(1, 11))
    for row in table(tmp_path):
        assert ("infeasible" in row[5]) == (row[2]["model.a"] > 10)
        assert not {"infeasible", "duplicate_of"} <= set(row[5])


def test_exhausted_when_every_cell_is_proposed_running_ones_too_and_after_reopening(tmp_path):
    space = space_of(FEW)
    opened = open_study(tmp_path, space)
    proposer = proposer_of(opened, space)
    cells = []
    while not proposer.exhausted(space.size()):
        proposal = proposer.ask()
        if proposal.duplicate_of is None:
            cells.append((proposal.values["model.a"], proposal.values["model.b"]))
        assert len(opened.study.trials) < 30
    assert sorted(cells) == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    close(opened)
    opened = open_study(tmp_path, space)
    assert proposer_of(opened, space).exhausted(4)
    assert not proposer_of(opened, space).exhausted(5)
    assert not proposer_of(opened, space).exhausted(None)
    close(opened)


def in_grid_order() -> list[dict[str, Any]]:
    """The cells of FINITE, by hand: what makes the shape varies slowest."""
    optimizers: list[dict[str, Any]] = [{"optimizer": "Adam"}]
    optimizers += [{"optimizer": "SGD", "optimizer_kwargs.momentum": momentum} for momentum in (0.5, 0.95)]
    return [{"model.depth": depth, **rest} for depth in (1, 2, 3) for rest in optimizers]


def ask_all(folder: Path, space: SearchSpace, most: int = 99) -> list[Proposal]:
    opened, found = open_study(folder, space), []
    proposer = proposer_of(opened, space)
    while len(found) < most and (proposal := proposer.ask()) is not None:
        found.append(proposal)
        tell(opened, proposal)
    close(opened)
    return found


def test_a_grid_is_walked_once_in_order_and_goes_on_after_reopening(tmp_path):
    space = space_of(FINITE, "grid")
    found = [*ask_all(tmp_path, space, 2), *ask_all(tmp_path, space, 3), *ask_all(tmp_path, space)]
    assert [proposal.values for proposal in found] == in_grid_order()
    assert all(proposal.duplicate_of is None and proposal.infeasible is None for proposal in found)
    assert [proposal.number for proposal in found] == list(range(9))
    assert ask_all(tmp_path, space) == []
    assert len(table(tmp_path)) == 9


def test_a_grid_skips_what_was_enqueued(tmp_path):
    space = space_of(FINITE, "grid")
    cell = in_grid_order()[4]
    opened = open_study(tmp_path, space)
    enqueue(opened.study, space, cell, "file")
    close(opened)
    found = [proposal.values for proposal in ask_all(tmp_path, space)]
    assert found == [cell, *[other for other in in_grid_order() if other != cell]]


def test_a_grid_has_only_feasible_cells(tmp_path):
    space = space_of(FINITE, "grid", constraints=["model.depth != 2"])
    expected = [cell for cell in in_grid_order() if cell["model.depth"] != 2]
    assert [proposal.values for proposal in ask_all(tmp_path, space)] == expected


def test_a_grid_over_steps_has_the_numbers_as_written(tmp_path):
    space = space_of("model.drop: {low: 0.1, high: 0.7, step: 0.2}", "grid")
    assert [proposal.values["model.drop"] for proposal in ask_all(tmp_path, space)] == [0.1, 0.3, 0.5, 0.7]


def test_enqueued_settings_come_first_with_their_origin(tmp_path):
    space = space_of(sampler="tpe")
    entries = [{"learning_rate": 0.02, "model.drop": 0.3}, {"optimizer": "Adam", "model.sizes": [5, 5]}]
    checked = check_enqueued(space, entries, "good.yaml")
    opened = open_study(tmp_path, space)
    for values in checked:
        enqueue(opened.study, space, values, "good.yaml")
    close(opened)
    found = run(tmp_path, space, 3)
    assert [proposal.values for proposal in found[:2]] == checked
    assert found[0].recipe.learning_rate == 0.02
    assert found[1].recipe.model["sizes"] == [5, 5]
    assert [row[5].get("enqueued") for row in table(tmp_path)] == ["good.yaml", "good.yaml", None]


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
@pytest.mark.parametrize("entry", [{"optimizer": "SGD"}, {"optimizer": "Adam"}])
def test_a_checked_setting_is_all_that_is_proposed(tmp_path, optimizer, entry):
    """What is left out is the default recipe's: nothing of a known-good setting is left to the sampler."""
    space = space_of(recipe={"optimizer": optimizer})
    values = check_enqueued(space, [entry], "good.yaml")[0]
    assert ("optimizer_kwargs.momentum" in values) == (entry["optimizer"] == "SGD")
    if entry["optimizer"] == "SGD":
        assert values["optimizer_kwargs.momentum"] == 0.9
    opened = open_study(tmp_path, space)
    enqueue(opened.study, space, values, "good.yaml")
    close(opened)
    assert run(tmp_path, space, 1)[0].values == values


def test_a_setting_may_name_the_recipes_own_fixed_values_and_be_a_whole_recipe():
    space = space_of(recipe={"epochs": 7})
    assert check_enqueued(space, {"epochs": 7, "learning_rate": 0.05}, "f")[0]["learning_rate"] == 0.05
    whole = {"recipe": {"epochs": 3, "learning_rate": 0.05, "model": {"depth": 2, "sizes": [3, 3]}}}
    values = check_enqueued(space, whole, "f")[0]
    assert (values["learning_rate"], values["model.depth"], values["model.sizes"]) == (0.05, 2, [3, 3])


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], ["list of settings"]),
        (None, ["list of settings"]),
        ("learning_rate=3", ["list of settings"]),
        ([3], ["[0]", "PARAMETER"]),
        ([{"learning_rate": 0.01}, {"learning_rte": 0.01}], ["[1]", "'learning_rte' is not searched", "learning_rate"]),
        ([{"learning_rate": 5.0}], ["[0].learning_rate", "out of the searched range", "5.0"]),
        ([{"learning_rate": "fast"}], ["[0].learning_rate", "fast"]),
        ([{"learning_rate": math.nan}], ["[0].learning_rate"]),
        ([{"optimizer": "AdamW"}], ["[0].optimizer", "AdamW"]),
        ([{"model.depth": 2.5}], ["[0].model.depth", "2.5"]),
        ([{"model.depth": True}], ["[0].model.depth", "True"]),
        ([{"model.drop": 0.25}], ["[0].model.drop", "0.25"]),
        ([{"model.sizes": [9, 9]}], ["[0].model.sizes", "[9, 9]"]),
        ([{"epochs": 3}], ["'epochs' is not searched"]),
    ],
)
def test_a_setting_that_the_space_does_not_hold_is_refused(entries, words):
    with pytest.raises(SearchSpaceError) as caught:
        check_enqueued(space_of(), entries, "good.yaml")
    assert str(caught.value).startswith("good.yaml")
    assert all(word in str(caught.value) for word in words)


def test_qmc_proposals_fill_the_space_evenly(tmp_path):
    """Of a Sobol sequence's first 16 points each sixteenth holds one, scrambled or not; of random ones it does not."""
    space = space_of("model.x: {low: 0.0, high: 1.0}", "qmc")
    found = run(tmp_path, space, 17)[1:]
    assert sorted(math.floor(proposal.values["model.x"] * 16) for proposal in found) == list(range(16))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_optunas_own_qmc_fills_the_space_evenly():
    """The oracle of the test above."""
    study = optuna.create_study(sampler=optuna.samplers.QMCSampler(scramble=True, seed=3))
    drawn = []
    for _ in range(17):
        trial = study.ask()
        drawn.append(trial.suggest_float("x", 0.0, 1.0))
        study.tell(trial, 0.0)
    assert sorted(math.floor(value * 16) for value in drawn[1:]) == list(range(16))


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", pytest.param("gp", marks=pytest.mark.slow)])
def test_a_sampler_learns_from_results(tmp_path, sampler):
    """After 20 results of a bowl at (0.3, 0.7), its next proposals lie nearer to the middle than random ones do."""
    space = space_of("{model.x: {low: 0.0, high: 1.0}, model.y: {low: 0.0, high: 1.0}}", sampler)
    opened = open_study(tmp_path, space)
    proposer, distances = proposer_of(opened, space), []
    for _ in range(30):
        proposal = proposer.ask()
        x, y = proposal.values["model.x"], proposal.values["model.y"]
        distances.append(math.hypot(x - 0.3, y - 0.7))
        opened.study.tell(proposal.number, distances[-1] ** 2)
    close(opened)
    assert sum(distances[20:]) / 10 < 0.25  # random ones: 0.44 on average
