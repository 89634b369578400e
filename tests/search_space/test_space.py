"""Search spaces: conditions, derived values, constraints and grids against brute force."""

from __future__ import annotations

import itertools
import json
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import SearchSpaceError, UsageError
from tuner.search_space import SearchSpace, Target, build_space, find_target
from tuner.search_space.build import fix, plain_space
from tuner.search_space.file import SpaceFile
from tuner.search_space.yaml_file import parse_yaml

ABSENT = object()


def space_of(
    search: Any, recipe: Any = None, settings: Any = None, metric: str = "val_loss", **mode: Any
) -> SearchSpace:
    """The mode `full` of a search space; `search` and `recipe` are YAML or plain values."""
    search = parse_yaml(search, "x") if isinstance(search, str) else search
    recipe = parse_yaml(recipe, "x") if isinstance(recipe, str) else recipe
    content = {
        "task": "sketch",
        "metric": metric,
        "recipe": recipe or {},
        "modes": {"full": {"sampler": "random", "trials": 9, "search": search, **mode}},
    }
    target = Target("sketch", SpaceFile.model_validate(content), "space.yaml")
    return build_space(target, "full", settings)


def drawn(space: SearchSpace, count: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.suggest(study.ask()) for _ in range(count)]


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


CONDITIONAL = """
optimizer: {choices: [Adam, AdamW, SGD]}
optimizer_kwargs.momentum: {choices: [0.0, 0.9], when: {optimizer: SGD}}
optimizer_kwargs.nesterov: {choices: [true, false], when: {optimizer_kwargs.momentum: 0.9}}
optimizer_kwargs.weight_decay: {choices: [0.01, 0.1], when: {optimizer: [AdamW, SGD]}}
"""


def test_conditions_nested_and_with_several_values():
    seen = drawn(space_of(CONDITIONAL), 80)
    for values in seen:
        sgd = values["optimizer"] == "SGD"
        assert ("optimizer_kwargs.momentum" in values) == sgd
        assert ("optimizer_kwargs.nesterov" in values) == (values.get("optimizer_kwargs.momentum") == 0.9)
        assert ("optimizer_kwargs.weight_decay" in values) == (values["optimizer"] in ("AdamW", "SGD"))
    assert {values["optimizer"] for values in seen} == {"Adam", "AdamW", "SGD"}
    assert any("optimizer_kwargs.nesterov" in values for values in seen)


def test_an_inactive_value_is_in_no_recipe():
    space = space_of(CONDITIONAL)
    recipe, violated = space.recipe_for({"optimizer": "Adam"})
    assert recipe.optimizer_kwargs == {}
    assert violated is None


def test_the_order_of_writing_does_not_matter_to_conditions():
    lines = CONDITIONAL.strip().splitlines()
    space = space_of("\n".join(reversed(lines)))
    cells = {json.dumps(values, sort_keys=True) for values in space.combinations()}
    assert cells == {json.dumps(values, sort_keys=True) for values in space_of(CONDITIONAL).combinations()}
    assert len(cells) == 1 + 2 + 2 * (1 + 2)


@pytest.mark.parametrize(("optimizer", "active"), [("SGD", True), ("AdamW", True), ("Adam", False)])
def test_a_condition_on_a_fixed_value_of_the_recipe(optimizer, active):
    search = "optimizer_kwargs.weight_decay: {low: 0.1, high: 1.0, when: {optimizer: [SGD, AdamW]}}"
    space = space_of(search, {"optimizer": optimizer})
    assert [bool(values) for values in drawn(space, 3)] == [active] * 3
    assert ("optimizer_kwargs.weight_decay" in space.default_values()[0]) == active


def test_a_condition_on_a_default_is_the_same_for_the_default_recipe_and_for_the_sampler():
    """`learning_rate: null` means Adam's 0.001, in a condition too."""
    space = space_of("model.depth: {choices: [1, 2], when: {learning_rate: 0.001}}", {"optimizer": "Adam"})
    assert [sorted(values) for values in drawn(space, 2)] == [sorted(space.default_values()[0])] * 2


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("model.a: {choices: [1], when: {optimizr: SGD}}", ["optimizr", "'optimizer'"]),
        ("{optimizer: {choices: [SGD]}, model.a: {choices: [1], when: {optimizer: sdg}}}", ["never", "'SGD'"]),
        (
            "{optimizer: {choices: [SGD]}, model.a: {choices: [1], when: {optimizer: [SGD, Lion]}}}",
            ["never", "'Lion'"],
        ),
        (
            "{model.a: {choices: [1], when: {model.b: 1}}, model.b: {choices: [1], when: {model.a: 1}}}",
            ["circle", "model.a", "model.b"],
        ),
        ("model.a: {choices: [1], when: {model.a: 1}}", ["circle", "model.a"]),
    ],
)
def test_a_condition_that_can_never_hold_is_refused(search, words):
    with pytest.raises(SearchSpaceError) as caught:
        space_of(search)
    assert all(word in str(caught.value) for word in words)
    assert caught.value.place.startswith("space.yaml: modes.full.search.model.a.when")


def test_derived_values_follow_each_other_in_any_order_of_writing():
    space = space_of(
        "{model.heads: {choices: [2, 4]}, model.head_dim: {low: 8, high: 16, step: 8}}",
        derived={
            "model.hidden": "4 * model.d_model",
            "model.d_model": "model.heads * model.head_dim",
            "batch_size": "256 // model.heads",
        },
    )
    for values in space.combinations():
        heads, width = values["model.heads"], values["model.head_dim"]
        recipe, _ = space.recipe_for(values)
        assert recipe.model == {
            "heads": heads,
            "head_dim": width,
            "d_model": heads * width,
            "hidden": 4 * heads * width,
        }
        assert recipe.batch_size == 256 // heads


def test_a_derived_value_may_need_a_default_of_the_optimizer():
    space = space_of("optimizer: {choices: [Adam, SGD]}", derived={"gradient_clip": "learning_rate * 100"})
    assert space.recipe_for({"optimizer": "Adam"})[0].gradient_clip == pytest.approx(0.1)
    assert space.recipe_for({"optimizer": "SGD"})[0].gradient_clip == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("derived", "words"),
    [
        ({"model.a": "model.b", "model.b": "model.a"}, ["circle"]),
        ({"model.x": "1"}, ["either searched or derived"]),
        ({"epochz": "1"}, ["epochz", "'epochs'"]),
        ({"epochs": "batchsize * 2"}, ["batchsize", "'batch_size'"]),
        ({"epochs": "2 *"}, ["not an expression"]),
        ({"epochs": None}, ["must be an expression"]),
    ],
)
def test_impossible_derived_values_are_refused_before_anything_runs(derived, words):
    with pytest.raises(SearchSpaceError) as caught:
        space_of("model.x: {choices: [1, 2]}", derived=derived)
    assert all(word in str(caught.value) for word in words)
    assert "modes.full.derived" in str(caught.value)


def test_a_derived_value_out_of_bounds_names_the_expression():
    space = space_of("model.x: {choices: [1, 2]}", derived={"epochs": "model.x - 1"})
    with pytest.raises(SearchSpaceError, match=r"derived\.epochs"):
        space.recipe_for({"model.x": 1})


def test_the_first_constraint_that_is_broken_is_named():
    space = space_of(
        "{model.a: {low: 1, high: 9}, model.b: {low: 1, high: 9}}",
        derived={"model.c": "model.a * model.b"},
        constraints=["model.c <= 20", "model.a < model.b"],
    )
    for a, b in itertools.product(range(1, 10), repeat=2):
        recipe, violated = space.recipe_for({"model.a": a, "model.b": b})
        expected = "model.c <= 20" if a * b > 20 else None if a < b else "model.a < model.b"
        assert violated == expected
        assert recipe.model["c"] == a * b


def test_a_constraint_over_an_unknown_value_is_refused_before_anything_runs():
    with pytest.raises(SearchSpaceError, match=r"constraints\[0\].*epochz.*'epochs'"):
        space_of("model.x: {choices: [1]}", constraints=["epochz < 3"])


SMALL = st.lists(
    st.tuples(
        st.one_of(
            st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True).map(lambda found: {"choices": found}),
            st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 2)).map(
                lambda found: {"low": found[0], "high": found[0] + found[1], "step": found[2]}
            ),
        ),
        st.none() | st.tuples(st.integers(0, 2), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=4,
)


def small_search(drawn: list[Any]) -> dict[str, Any]:
    """Parameters p0, p1, ...: each may depend on an earlier one having one of its first few values."""
    search: dict[str, Any] = {}
    for position, (written, condition) in enumerate(drawn):
        entry = dict(written)
        if condition is not None and condition[0] < position:
            parent = f"model.p{condition[0]}"
            entry["when"] = {parent: options(search[parent])[: condition[1]]}
        search[f"model.p{position}"] = entry
    return search


def options(entry: dict[str, Any]) -> list[Any]:
    return list(entry.get("choices") or range(entry["low"], entry["high"] + 1, entry["step"]))


def by_hand(search: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination, from the whole product with ABSENT as one more value of each parameter."""
    cells = []
    for chosen in itertools.product(*([*options(entry), ABSENT] for entry in search.values())):
        cell = dict(zip(search, chosen, strict=True))
        if all(
            (cell[path] is not ABSENT)
            == all(
                cell[parent] is not ABSENT and cell[parent] in allowed
                for parent, allowed in entry.get("when", {}).items()
            )
            for path, entry in search.items()
        ):
            cells.append({path: value for path, value in cell.items() if value is not ABSENT})
    return cells


@settings(max_examples=80, deadline=None)
@given(SMALL, st.integers(0, 8), st.integers(0, 99))
def test_a_grid_is_the_product_filtered_by_hand(parts, limit, seed):
    search = small_search(parts)
    first = next(iter(search))
    constraint = f"{first} * 2 + 1 <= {limit}"
    everything = by_hand(search)
    feasible = [cell for cell in everything if cell[first] * 2 + 1 <= limit]

    free = space_of(search, sampler="grid")
    assert list(free.combinations()) == everything
    assert free.size() == len(everything)
    assert free.size(len(everything)) == len(everything)
    assert free.size(len(everything) - 1) is None

    bound = space_of(search, constraints=[constraint])
    assert list(bound.combinations()) == feasible
    assert bound.size() == len(feasible)

    assert all(values in everything for values in drawn(free, 5, seed))
    assert free.default_values()[0] in everything


def test_grid_order_has_the_last_parameter_fastest():
    space = space_of("{model.a: {choices: [2, 1]}, model.b: {choices: [x, y]}}", sampler="grid")
    assert [tuple(values.values()) for values in space.combinations()] == [(2, "x"), (2, "y"), (1, "x"), (1, "y")]


def test_a_grid_nests_shapes_outermost_and_where_a_run_ends_innermost():
    search = """
    epochs: {choices: [5, 9]}
    learning_rate: {choices: [0.1, 0.2]}
    early_stopping.patience: {choices: [2, 3]}
    batch_size: {choices: [16, 32]}
    optimizer: {choices: [Adam, SGD]}
    model.depth: {choices: [1, 2]}
    """
    recipe = {"early_stopping": {"monitor": "val_loss", "patience": 3}}
    cells = list(space_of(search, sampler="grid", recipe=recipe).combinations())
    shapes = [(cell["batch_size"], cell["model.depth"]) for cell in cells]
    assert list(dict.fromkeys(shapes)) == [found for found, _ in itertools.groupby(shapes)]
    trainings = [(*shape, cell["learning_rate"], cell["optimizer"]) for shape, cell in zip(shapes, cells, strict=True)]
    assert [len(list(found)) for _, found in itertools.groupby(trainings)] == [4] * 16
    assert trainings[:8:4] == [(16, 1, 0.1, "Adam"), (16, 1, 0.1, "SGD")]
    assert [(cell["epochs"], cell["early_stopping.patience"]) for cell in cells[:4]] == [(5, 2), (5, 3), (9, 2), (9, 3)]


def test_a_grid_keeps_conditions_whatever_they_rest_on():
    """A shape that is searched for one optimizer only, and a rate for one length only: parents come first."""
    search = """
    learning_rate: {choices: [0.1, 0.2], when: {epochs: 5}}
    epochs: {choices: [5, 9]}
    optimizer: {choices: [Adam, SGD]}
    model.depth: {choices: [1, 2], when: {optimizer: SGD}}
    """
    space = space_of(search, sampler="grid")
    assert [parameter.path for parameter in space.in_grid_order()][:2] == ["optimizer", "model.depth"]
    cells = list(space.combinations())
    assert len(cells) == space.size() == 3 * 3
    assert all(("learning_rate" in cell) == (cell["epochs"] == 5) for cell in cells)
    assert all(("model.depth" in cell) == (cell["optimizer"] == "SGD") for cell in cells)


def test_what_a_shape_is_derived_from_is_a_source_of_it():
    space = space_of(
        "{model.heads: {choices: [1, 2]}, seed: {choices: [1, 2]}, dropout_seed: {choices: [1, 2]}}",
        derived={"model.width": "model.heads * seed", "model.depth": "model.width + 1"},
        recipe={"model": {"width": 1, "depth": 1}},
    )
    assert space.sources_of(space.shape_paths()) == {"model.heads", "seed"}
    assert space.sources_of({"model.depth"}) == {"model.heads", "seed"}


def test_the_size_of_a_continuous_space_is_unknown_and_a_grid_of_it_is_refused():
    search = "{model.a: {choices: [1, 2]}, learning_rate: {low: 0.1, high: 1.0}}"
    assert space_of(search).size() is None
    with pytest.raises(SearchSpaceError, match=r"learning_rate.*finitely many"):
        space_of(search, sampler="grid")
    stepped = "{model.a: {choices: [1, 2]}, learning_rate: {low: 0.1, high: 1.0, step: 0.1}}"
    assert space_of(stepped, sampler="grid").size() == 20


def test_the_default_recipe_is_moved_into_range_and_that_is_said():
    space = space_of(
        """
        learning_rate: {low: 0.01, high: 0.1}
        batch_size: {choices: [16, 32]}
        epochs: {low: 5, high: 15, step: 5}
        optimizer: {choices: [SGD, AdamW]}
        model.width: {low: 1, high: 9}
        model.depth: {choices: [1, 2]}
        """,
        "{optimizer: Adam, epochs: 20, batch_size: 32, model: {depth: 2}}",
    )
    values, moved = space.default_values()
    assert values == {
        "learning_rate": 0.01,
        "batch_size": 32,
        "epochs": 15,
        "optimizer": "SGD",
        "model.width": 5,
        "model.depth": 2,
    }
    assert sorted(moved) == ["epochs", "learning_rate", "optimizer"]


def test_a_default_recipe_within_range_is_taken_as_it_is():
    space = space_of(
        "{learning_rate: {low: 1e-5, high: 1e-1, log: true}, optimizer: {choices: [Adam, SGD]},"
        " optimizer_kwargs.momentum: {low: 0.5, high: 0.99, when: {optimizer: SGD}}}"
    )
    assert space.default_values() == ({"learning_rate": 0.001, "optimizer": "Adam"}, [])
    sgd = space_of(
        "{learning_rate: {low: 1e-5, high: 1e-1, log: true}, optimizer: {choices: [Adam, SGD]},"
        " optimizer_kwargs.momentum: {low: 0.5, high: 0.99, when: {optimizer: SGD}}}",
        {"optimizer": "SGD"},
    )
    assert sgd.default_values()[0] == {"learning_rate": 0.01, "optimizer": "SGD", "optimizer_kwargs.momentum": 0.9}


def test_a_set_value_is_no_longer_searched():
    free = space_of(CONDITIONAL)
    space = fix(free, {"optimizer": "SGD"}, "--set")
    assert [entry.path for entry in space.parameters] == [entry.path for entry in free.parameters][1:]
    for values in drawn(space):
        recipe, _ = space.recipe_for(values)
        assert recipe.optimizer == "SGD"
        assert "optimizer_kwargs.momentum" in values
    assert free.parameters[0].path == "optimizer"


def test_setting_a_value_that_a_condition_excludes_switches_the_rest_off():
    space = space_of(CONDITIONAL, settings={"optimizer": "Adam"})
    assert list(space.combinations()) == [{}]


def test_a_set_value_is_no_longer_derived():
    space = space_of("model.a: {choices: [1, 2]}", derived={"model.b": "model.a * 2"}, settings={"model.b": 7})
    assert [space.recipe_for(values)[0].model["b"] for values in space.combinations()] == [7, 7]


def test_what_is_derived_follows_a_set_value():
    space = space_of("model.a: {choices: [1, 2]}", derived={"model.b": "model.a * 2"}, settings={"model.a": 7})
    assert space.recipe_for({})[0].model == {"a": 7, "b": 14}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rte": 1}, ["--set", "'learning_rate'"]),
        ({"epochs": 0}, ["--set epochs", "0"]),
        ({"learning_rate": "fast"}, ["--set learning_rate", "fast"]),
    ],
)
def test_a_bad_setting_is_refused_at_the_command_line(settings, words):
    with pytest.raises(SearchSpaceError) as caught:
        space_of("model.a: {choices: [1, 2]}", settings=settings)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("settings", [{"loss": "mse"}, {"loss_weights.mse": 1.0}])
@pytest.mark.parametrize("recipe", [{}, {"loss": "l1"}, {"loss_weights": {"l1": 2.0}}])
def test_a_loss_can_be_set_whatever_the_recipe_says(settings, recipe):
    space = space_of("model.a: {choices: [1, 2]}", recipe, settings)
    recipe, _ = space.recipe_for({"model.a": 1})
    assert "mse" in (recipe.loss, *recipe.loss_weights)


def outcome(*arguments: Any, **mode: Any) -> str:
    """'refused' where the space or its default recipe is, else whether all that is drawn makes recipes.

    The default recipe is made before a study is (`resolve`); what fails later stops a study halfway.
    """
    try:
        space = space_of(*arguments, metric="val_accuracy", **mode)
        space.recipe_for(space.default_values()[0])
    except SearchSpaceError:
        return "refused"
    try:
        for values in drawn(space):
            space.recipe_for(values)
    except SearchSpaceError as error:
        return f"stops halfway: {error}"
    return "works"


@pytest.mark.parametrize(
    ("search", "recipe", "settings"),
    [
        ("loss_weights.l1: {low: 0.1, high: 1.0}", {"loss": "mse"}, None),
        ("loss: {choices: [mse, l1]}", {"loss_weights": {"l1": 1.0}}, None),
        ("{loss: {choices: [mse, l1]}, loss_weights.l1: {low: 0.1, high: 1.0}}", {}, None),
        (
            "{optimizer: {choices: [Adam, SGD]}, loss_weights.l1: {low: 0.1, high: 1.0, when: {optimizer: SGD}}}",
            {"loss": "mse"},
            None,
        ),
    ],
)
def test_loss_and_weights_that_exclude_each_other_are_refused_before_the_first_trial(search, recipe, settings):
    assert outcome(search, recipe, settings) == "refused"


@pytest.mark.parametrize(
    ("search", "settings"),
    [
        ("loss_weights.l1: {low: 0.1, high: 1.0}", {"loss": "mse"}),
        ("loss: {choices: [mse, l1]}", {"loss_weights.l1": 1.0}),
    ],
)
def test_a_loss_that_is_set_is_searched_neither_by_name_nor_by_weight(search, settings):
    assert outcome(search, {}, settings) == "works"
    assert space_of(search, {}, settings).parameters == ()


@pytest.mark.parametrize(
    ("search", "recipe"),
    [
        ("loss: {choices: [mse, l1]}", {"loss": "mse"}),
        ("loss_weights.l1: {low: 0.1, high: 1.0}", {"loss_weights": {"mse": 1.0}}),
        ("loss_weights.l1: {low: 0.1, high: 1.0}", {}),
    ],
)
def test_a_loss_or_a_weight_can_be_searched(search, recipe):
    assert outcome(search, recipe) == "works"


MOMENTUM = """
optimizer: {choices: [Adam, SGD]}
optimizer_kwargs.momentum: {low: 0.5, high: 0.99, when: {optimizer: SGD}}
"""


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
@pytest.mark.parametrize(
    "mode",
    [
        {"constraints": ["optimizer_kwargs.momentum <= 0.9"]},
        {"derived": {"gradient_clip": "1 - optimizer_kwargs.momentum"}},
    ],
)
def test_an_expression_over_an_inactive_value_does_not_stop_a_study_halfway(optimizer, mode):
    """Refused before the first trial, or made to work; it must not depend on what the sampler draws."""
    assert outcome(MOMENTUM, {"optimizer": optimizer}, **mode) in ("refused", "works")


def test_a_description_is_json_and_stable():
    def build(**changed: Any) -> SearchSpace:
        return space_of(
            CONDITIONAL + "model.sizes: {choices: [[3, 3], {k: 5}]}\nlearning_rate: {low: 1e-5, high: 1, log: true}\n",
            "{epochs: 3, early_stopping: {patience: 2}, model: {tau: 2.0}}",
            **{"derived": {"model.b": "epochs * 2"}, "constraints": ["model.b < 100"], **changed},
        )

    described = build().describe()
    assert json.loads(json.dumps(described)) == described
    assert described == build().describe()
    assert json.dumps(described) == json.dumps(build().describe())
    for changed in (
        {"sampler": "tpe"},
        {"sampler_kwargs": {"n_startup_trials": 3}, "sampler": "tpe"},
        {"pruner": "median"},
        {"study_seed": 1},
        {"parallel": 2},
        {"derived": {"model.b": "epochs * 3"}},
        {"constraints": ["model.b < 101"]},
        {"settings": {"epochs": 4}},
    ):
        assert build(**changed).describe() != described
    assert build(trials=500).describe() == described


def test_a_modes_recipe_adds_to_the_files():
    content = {
        "task": "sketch",
        "recipe": {"epochs": 3, "model": {"a": 1, "b": 2}},
        "modes": {"full": {"trials": 1, "recipe": {"epochs": 9, "model": {"b": 5}}}},
    }
    target = Target("sketch", SpaceFile.model_validate(content), "space.yaml")
    recipe = build_space(target, "full").recipe
    assert (recipe.epochs, recipe.model) == (9, {"a": 1, "b": 5})
    assert plain_space(target, {"model.a": 8}).recipe.model == {"a": 8, "b": 2}


@pytest.mark.parametrize(
    ("search", "place"),
    [
        ("epochs: {low: 0, high: 3}", "epochs.low"),
        ("learning_rate: {low: 0.0, high: 3}", "learning_rate.low"),
        ("batch_size: {choices: [16, 0]}", "batch_size.choices[1]"),
        ("early_stopping.patience: {low: -1, high: 3}", "early_stopping.patience.low"),
        ("learning_rat: {low: 0.1, high: 3}", "learning_rat"),
        ("model: {choices: [1, 2]}", "model"),
        ("early_stopping: {choices: [null]}", "early_stopping"),
        ("optimizer: {low: 1, high: 2}", "optimizer"),
        ("epochs: {low: 1.5, high: 3}", "epochs.low"),
    ],
)
def test_a_searched_value_that_no_recipe_takes_is_refused(search, place):
    with pytest.raises(SearchSpaceError) as caught:
        space_of(search)
    assert caught.value.place == f"space.yaml: modes.full.search.{place}"


def test_ranges_of_whole_numbers_become_floats_where_the_field_is_one():
    space = space_of(
        "{learning_rate: {low: 1, high: 2}, model.tau: {low: 1, high: 4}, model.new: {low: 1, high: 4}}",
        "model: {tau: 2.0}",
    )
    types = [type(value) for value in drawn(space, 1)[0].values()]
    assert types == [float, float, int]


SPACE_FILE = """
task: digits
metric: val_accuracy
modes:
  quick: {trials: 5, search: {epochs: {low: 1, high: 3}}}
  full: {time: 1h30m, search: {epochs: {low: 1, high: 3}}}
  none: {search: {epochs: {low: 1, high: 3}}}
  empty:
"""


def test_a_search_space_from_its_file(tmp_path):
    path = tmp_path / "sketch.yaml"
    path.write_text(SPACE_FILE)
    target = find_target(str(path))
    quick, full = build_space(target, "quick"), build_space(target, "full")
    assert (quick.direction, quick.budget.trials, quick.sampler, quick.pruner) == ("maximize", 5, "tpe", "none")
    assert full.budget.seconds == 5400
    assert build_space(target, "quick", trials=7, sampler="random").budget.trials == 7
    with pytest.raises(SearchSpaceError, match=r"modes.*no mode 'ful'.*'full'"):
        build_space(target, "ful")
    with pytest.raises(SearchSpaceError, match="budget"):
        build_space(target, "none")
    with pytest.raises(SearchSpaceError, match="budget"):
        build_space(target, "empty")
    with pytest.raises(SearchSpaceError, match=r"sampler.*'tpee'.*'tpe'"):
        build_space(target, "quick", sampler="tpee")
    with pytest.raises(UsageError, match="trials"):
        build_space(target, "quick", trials=0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"metrik": "val_loss"}, ["metrik", "'metric'"]),
        ({"direction": "up"}, ["direction"]),
        ({"modes": {"full": {"trials": 1, "serch": {}}}}, ["modes.full.serch", "'search'"]),
        ({"modes": {"full": {"trials": -1}}}, ["modes.full.trials", "-1"]),
        ({"modes": {"full": {"trials": 1, "pruner": "hyperbnd"}}}, ["pruner", "'hyperband'"]),
        ({"modes": {"full": {"trials": 1, "time": "soon"}}}, ["modes.full.time", "soon"]),
        ({"modes": {"full": {"trials": 1, "parallel": 0}}}, ["modes.full.parallel", "0"]),
        ({"modes": {"full": [1]}}, ["modes.full"]),
        ({"recipe": {"epoch": 3}}, ["recipe.epoch", "'epochs'"]),
        ({"recipe": [1]}, ["recipe"]),
    ],
)
def test_a_mistake_in_a_file_names_the_file_the_key_and_the_nearest(tmp_path, changed, words):
    path = tmp_path / "sketch.yaml"
    content = {"task": "digits", "metric": "val_loss", "modes": {"full": {"trials": 1}}, **changed}
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError) as caught:
        build_space(find_target(str(path)), "full")
    assert str(caught.value).startswith(str(path))
    assert all(word in str(caught.value) for word in words)
