"""Ranges and choices against Optuna's own distributions, drawn through real trials."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from decimal import Decimal
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from tuner.errors import SearchSpaceError
from tuner.search_space.parameter import Choices, FloatRange, IntRange, Parameter, parse_parameter

QUIET = settings(max_examples=60, deadline=None)


def parse(entry: object, kind: str | None = None) -> Parameter:
    return parse_parameter("model.x", entry, kind, "space.yaml: search.model.x")


def draw(parameter: Parameter, count: int = 12, seed: int = 0) -> list[Any]:
    """Values from Optuna trials with the random sampler."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [parameter.suggest(study.ask()) for _ in range(count)]


def by_optuna(distribution: FloatDistribution | IntDistribution) -> list[float]:
    """Every value on the grid of a distribution, by its own rule of what it contains."""
    step = distribution.step
    count = round((distribution.high - distribution.low) / step)
    grid = [min(distribution.low + k * step, distribution.high) for k in range(count + 1)]
    assert all(distribution._contains(value) for value in grid)
    return grid


def float_distribution(low: float, high: float, step: float) -> FloatDistribution:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns where it lowers `high` to the last step
        return FloatDistribution(low, high, step=step)


def int_distribution(low: int, high: int, step: int) -> IntDistribution:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return IntDistribution(low, high, step=step)


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize(
    ("low", "high", "step", "written"),
    [
        (0.1, 1.0, 0.1, "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0"),
        (0.0, 0.5, 0.1, "0.0 0.1 0.2 0.3 0.4 0.5"),
        (0.0, 1.0, 0.3, "0.0 0.3 0.6 0.9"),
        (0.1, 1.05, 0.1, "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0"),
        (0.5, 0.9, 0.7, "0.5"),
        (-1.0, 1.0, 0.5, "-1.0 -0.5 0.0 0.5 1.0"),
        (1e-4, 5e-4, 1e-4, "0.0001 0.0002 0.0003 0.0004 0.0005"),
        (2, 8, 1.5, "2.0 3.5 5.0 6.5 8.0"),
    ],
)
def test_the_values_of_a_float_range_with_a_step_are_the_decimal_ones(low, high, step, written):
    parameter = parse({"low": low, "high": high, "step": step}, "float")
    values = list(parameter.values())
    assert values == [float(word) for word in written.split()]
    assert values == pytest.approx(by_optuna(float_distribution(low, high, step)), abs=1e-12)


@QUIET
@given(low=st.integers(-500, 500), width=st.integers(0, 300), step=st.integers(1, 90), seed=st.integers(0, 99))
def test_a_float_step_range_has_optunas_values_and_draws_only_those(low, width, step, seed):
    low, high, step = (float(Decimal(number) / 100) for number in (low, low + width, step))
    parameter = parse({"low": low, "high": high, "step": step}, "float")
    values = parameter.values()
    assert values == pytest.approx(by_optuna(float_distribution(low, high, step)), abs=1e-9)
    assert all(low <= value <= high for value in values)
    for value in draw(parameter, seed=seed):
        assert low <= value <= high
        assert min(abs(value - entry) for entry in values) < 1e-9
        assert parameter.contains(value)


@QUIET
@given(low=st.floats(-1e6, 1e6), width=st.floats(0, 1e6), seed=st.integers(0, 99))
def test_a_float_range_draws_within_its_ends(low, width, seed):
    parameter = parse({"low": low, "high": low + width}, "float")
    drawn = draw(parameter, seed=seed)
    assert all(low <= value <= low + width and parameter.contains(value) for value in drawn)
    assert parameter.values() == ([low] if low + width == low else None)


@QUIET
@given(low=st.floats(1e-9, 1e3), factor=st.floats(1, 1e6), seed=st.integers(0, 99))
def test_a_log_range_draws_within_its_ends(low, factor, seed):
    parameter = parse({"low": low, "high": low * factor, "log": True}, "float")
    assert all(low <= value <= low * factor for value in draw(parameter, seed=seed))


def test_a_log_range_draws_as_many_from_each_decade():
    drawn = draw(parse({"low": 1e-4, "high": 1.0, "log": True}, "float"), count=400)
    decades = [math.floor(math.log10(value)) for value in drawn]
    assert {-4, -3, -2, -1} >= set(decades)
    assert all(60 < decades.count(decade) < 140 for decade in (-4, -3, -2, -1))


@QUIET
@given(low=st.integers(-50, 50), width=st.integers(0, 60), step=st.integers(1, 20), seed=st.integers(0, 99))
def test_an_int_range_has_optunas_values_and_draws_only_those(low, width, step, seed):
    parameter = parse({"low": low, "high": low + width, "step": step}, "int")
    values = list(parameter.values())
    assert values == by_optuna(int_distribution(low, low + width, step))
    for value in draw(parameter, seed=seed):
        assert type(value) is int
        assert value in values
        assert parameter.contains(value)


@QUIET
@given(low=st.integers(1, 50), width=st.integers(0, 500), seed=st.integers(0, 99))
def test_a_log_int_range_draws_ints_within_its_ends(low, width, seed):
    parameter = parse({"low": low, "high": low + width, "log": True}, "int")
    assert all(type(value) is int and low <= value <= low + width for value in draw(parameter, seed=seed))


def test_an_int_step_range_reaches_every_value():
    assert set(draw(parse({"low": 8, "high": 64, "step": 8}, "int"), count=300)) == set(range(8, 65, 8))


def test_a_range_off_its_last_step_draws_without_a_warning():
    assert max(draw(parse({"low": 1, "high": 10, "step": 4}, "int"), count=60)) == 9
    assert max(draw(parse({"low": 0.0, "high": 1.0, "step": 0.3}, "float"), count=60)) == pytest.approx(0.9)


def test_a_drawn_step_is_the_number_a_person_would_write():
    """Else 0.3 from the default recipe and 0.30000000000000004 from the sampler are two recipes."""
    parameter = parse({"low": 0.1, "high": 1.0, "step": 0.1}, "float")
    assert set(draw(parameter, count=300)) == {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0}


@pytest.mark.parametrize("off", [0.15, 0.25, 0.1001])
def test_a_float_off_the_grid_is_not_contained(off):
    parameter = parse({"low": 0.1, "high": 1.0, "step": 0.1}, "float")
    assert not parameter.contains(off)
    assert parameter.contains(0.3)
    assert parameter.contains(0.1 + 2 * 0.1)
    assert parameter.contains(1)
    assert not parameter.contains(0.0)
    assert not parameter.contains(1.1)
    assert not parameter.contains("0.3")
    assert not parameter.contains(True)


def test_what_an_int_range_contains():
    parameter = parse({"low": 8, "high": 60, "step": 8}, "int")
    assert [value for value in range(70) if parameter.contains(value)] == [8, 16, 24, 32, 40, 48, 56]
    assert not parameter.contains("8")
    assert not parse({"low": 0, "high": 3}, "int").contains(True)
    assert not parse({"low": 0, "high": 3}, "int").contains(1.5)


PLAIN = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab", max_size=2)
NESTED = st.lists(st.integers(0, 3), max_size=3) | st.dictionaries(st.sampled_from("ab"), st.integers(0, 2), max_size=2)


@QUIET
@given(st.lists(PLAIN | NESTED, min_size=1, max_size=5), st.integers(0, 99))
def test_choices_are_drawn_and_stored_so_that_they_come_back(choices, seed):
    unique = [entry for position, entry in enumerate(choices) if entry not in choices[:position]]
    parameter = parse({"choices": unique})
    assert list(parameter.values()) == unique
    for value in draw(parameter, count=6, seed=seed):
        assert value in unique
    for entry in unique:
        stored = parameter.encode(entry)
        assert isinstance(stored, (type(None), bool, int, float, str))
        assert parameter.decode(stored) == entry
        assert type(parameter.decode(stored)) is type(entry)


def test_lists_are_stored_by_their_index():
    parameter = parse({"choices": [[3, 3], [5, 3], {"k": 1}]})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    value = parameter.suggest(trial)
    assert trial.params == {"model.x": [[3, 3], [5, 3], {"k": 1}].index(value)}
    assert [parameter.encode(entry) for entry in parameter.values()] == [0, 1, 2]


def test_every_choice_is_drawn():
    assert set(draw(parse({"choices": ["a", "b", None, 3, 0.5, True]}), count=100)) == {"a", "b", None, 3, 0.5, True}


@pytest.mark.parametrize(
    ("entry", "kind", "value", "nearest"),
    [
        ({"low": 0.1, "high": 1.0}, "float", 0.5, 0.5),
        ({"low": 0.1, "high": 1.0}, "float", 7, 1.0),
        ({"low": 0.1, "high": 1.0}, "float", -7, 0.1),
        ({"low": 0.1, "high": 1.0, "step": 0.1}, "float", 0.34, 0.3),
        ({"low": 0.1, "high": 1.0, "step": 0.1}, "float", 99, 1.0),
        ({"low": 0.0, "high": 1.0, "step": 0.3}, "float", 1.0, 0.9),
        ({"low": 8, "high": 64, "step": 8}, "int", 30, 32),
        ({"low": 8, "high": 64, "step": 8}, "int", 100, 64),
        ({"low": 8, "high": 60, "step": 8}, "int", 60, 56),
        ({"low": 8, "high": 64, "step": 8}, "int", 0, 8),
        ({"choices": [16, 32, 64]}, None, 32, 32),
        ({"choices": [16, 32, 64]}, None, 60, 64),
        ({"choices": [16, 32, 64]}, None, 1000, 64),
        ({"choices": ["a", "b"]}, None, "b", "b"),
        ({"choices": ["a", "b"]}, None, "z", "a"),
        ({"choices": ["a", "b"]}, None, None, "a"),
        ({"choices": [None, 1.0]}, None, None, None),
        ({"choices": [None, 1.0]}, None, 3.0, 1.0),
        ({"choices": [[3, 3], [5, 3]]}, None, [5, 3], [5, 3]),
    ],
)
def test_the_nearest_value(entry, kind, value, nearest):
    assert parse(entry, kind).nearest(value) == nearest


@pytest.mark.parametrize("value", [None, "SGD", True])
@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"low": 0.1, "high": 1.0}, "float"),
        ({"low": 1e-5, "high": 1.0, "log": True}, "float"),
        ({"low": 0.1, "high": 1.0, "step": 0.1}, "float"),
        ({"low": 1, "high": 9, "step": 3}, "int"),
        ({"choices": [1, 2]}, None),
    ],
)
def test_the_nearest_to_no_number_is_a_value_of_the_range(entry, kind, value):
    parameter = parse(entry, kind)
    assert parameter.contains(parameter.nearest(value))


@QUIET
@given(st.integers(-20, 20), st.integers(0, 40), st.integers(1, 9), st.integers(-50, 50) | st.floats(-50, 50))
def test_nothing_is_nearer_than_the_nearest(low, width, step, value):
    parameter = parse({"low": low, "high": low + width, "step": step}, "int")
    nearest = parameter.nearest(value)
    assert parameter.contains(nearest)
    assert abs(nearest - value) == min(abs(entry - value) for entry in range(low, low + width + 1, step))


@pytest.mark.parametrize(
    ("kind", "entry", "cls"),
    [
        ("float", {"low": 1, "high": 4}, FloatRange),
        ("int", {"low": 1, "high": 4}, IntRange),
        ("int", {"low": 1.0, "high": 4.0}, IntRange),
        (None, {"low": 1, "high": 4}, IntRange),
        (None, {"low": 1, "high": 4.5}, FloatRange),
        (None, {"low": 1, "high": 4, "step": 0.5}, FloatRange),
        (None, {"low": 1, "high": 4, "type": "float"}, FloatRange),
        ("float", {"low": 1, "high": 4, "type": "int"}, IntRange),
        ("float", {"choices": [1, 2]}, Choices),
        ("float", {"choices": [1, 2], "type": "categorical"}, Choices),
    ],
)
def test_the_field_gives_the_type_unless_it_is_said(kind, entry, cls):
    assert isinstance(parse(entry, kind), cls)


@pytest.mark.parametrize(
    ("kind", "entry", "place", "rule"),
    [
        (None, 3, "model.x", "choices"),
        (None, [1, 2], "model.x", "choices"),
        (None, {}, "model.x", "'low' is missing"),
        (None, {"low": 1}, "model.x", "'high' is missing"),
        (None, {"low": 1, "hgh": 2}, "model.x.hgh", "'high'"),
        (None, {"low": "a", "high": 2}, "model.x.low", "number"),
        (None, {"low": True, "high": 2}, "model.x.low", "number"),
        (None, {"low": 1, "high": math.inf}, "model.x.high", "finite"),
        (None, {"low": math.nan, "high": 1.0}, "model.x.low", "finite"),
        (None, {"low": 3, "high": 2}, "model.x.low", "above high"),
        (None, {"low": 0, "high": 2, "log": True}, "model.x.low", "above 0"),
        (None, {"low": 1, "high": 2, "log": "yes"}, "model.x.log", "true or false"),
        (None, {"low": 1, "high": 2, "log": True, "step": 1}, "model.x.step", "exclude"),
        (None, {"low": 1, "high": 2, "step": 0}, "model.x.step", "above 0"),
        (None, {"low": 1, "high": 2, "step": -1}, "model.x.step", "above 0"),
        (None, {"low": 1, "high": 2, "step": "a"}, "model.x.step", "above 0"),
        ("int", {"low": 1.5, "high": 2}, "model.x.low", "whole"),
        ("int", {"low": 1, "high": 2, "step": 0.5}, "model.x.step", "whole"),
        ("categorical", {"low": 1, "high": 2}, "model.x", "choices"),
        (None, {"low": 1, "high": 2, "type": "flot"}, "model.x.type", "'float'"),
        (None, {"choices": []}, "model.x.choices", "at least one"),
        (None, {"choices": "Adam"}, "model.x.choices", "list"),
        (None, {"choices": [1, 2, 1]}, "model.x.choices[2]", "earlier choice"),
        (None, {"choices": [1, True]}, "model.x.choices[1]", "earlier choice"),
        (None, {"choices": [[1], [1]]}, "model.x.choices[1]", "earlier choice"),
        (None, {"choices": [1.0, math.nan]}, "model.x.choices[1]", "finite"),
        (None, {"choices": [1, 2], "low": 1}, "model.x.low", "choices"),
        (None, {"choices": [1, 2], "type": "int"}, "model.x.type", "categorical"),
        (None, {"choices": [1, 2], "when": 3}, "model.x.when", "PARAMETER"),
        (None, {"choices": [1, 2], "when": {}}, "model.x.when", "PARAMETER"),
    ],
)
def test_an_impossible_entry_names_its_place_and_the_rule(kind, entry, place, rule):
    with pytest.raises(SearchSpaceError) as caught:
        parse(entry, kind)
    assert caught.value.place == f"space.yaml: search.{place}"
    assert rule in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"low": 1e-5, "high": 1e-1, "log": True}, "float"),
        ({"low": 0.1, "high": 1.0, "step": 0.1}, "float"),
        ({"low": 8, "high": 64, "step": 8}, "int"),
        ({"low": 1, "high": 64, "log": True}, "int"),
        ({"choices": ["a", None, 3, [1, 2]]}, None),
        ({"choices": [1, 2], "when": {"optimizer": ["SGD", "Adam"], "epochs": 3}}, None),
    ],
)
def test_a_described_parameter_is_the_same_when_read_again(entry, kind):
    parameter = parse(entry, kind)
    described = json.loads(json.dumps(parameter.describe()))
    assert parse(described, None) == parameter


HUGE = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from tuner.recipe import Recipe
from tuner.search_space.parameter import parse_parameter
from tuner.search_space.space import SearchSpace
for path, entry, kind in (
    ("seed", {"low": 0, "high": 2**40}, "int"),
    ("model.x", {"low": 0.0, "high": 1.0, "step": 1e-10}, "float"),
):
    parameter = parse_parameter(path, entry, kind, "x")
    space = SearchSpace("t", "t", "m", "val_loss", "minimize", "best", Recipe(), "x", (parameter,))
    assert space.size(100_000) is None
    assert parameter.contains(parameter.nearest(5))
    print("fine")
"""


def test_a_huge_range_of_ints_or_steps_costs_no_memory():
    """`seed: {low: 0, high: 1099511627776}` is a fair thing to search."""
    done = subprocess.run([sys.executable, "-c", HUGE], capture_output=True, text=True, timeout=60)
    assert done.stdout == "fine\nfine\n", done.stderr[-500:]
