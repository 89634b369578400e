"""A recipe's defaults, bounds, paths and the types that ranges take from its fields."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import SearchSpaceError
from tuner.recipe import Recipe, parse_recipe, value_type


@pytest.mark.parametrize(
    ("optimizer", "learning_rate", "options"),
    [
        ("Adam", 0.001, {}),
        ("AdamW", 0.001, {}),
        ("SGD", 0.01, {"momentum": 0.9}),
        ("RMSprop", 0.01, {}),
        ("Adagrad", 0.01, {}),
    ],
)
def test_each_optimizer_has_its_default_learning_rate_and_options(optimizer, learning_rate, options):
    full = Recipe(optimizer=optimizer).with_defaults()
    assert full.learning_rate == learning_rate
    assert full.optimizer_kwargs == options


def test_an_optimizer_without_a_default_of_ours_keeps_torchs():
    full = Recipe(optimizer="Adadelta").with_defaults()
    assert full.learning_rate is None
    assert full.optimizer_kwargs == {}


def test_given_values_win_over_defaults():
    given = Recipe(optimizer="SGD", learning_rate=0.5, optimizer_kwargs={"momentum": 0.0, "nesterov": False})
    full = given.with_defaults()
    assert full.learning_rate == 0.5
    assert full.optimizer_kwargs == {"momentum": 0.0, "nesterov": False}


def test_other_options_leave_the_default_momentum():
    full = Recipe(optimizer="SGD", optimizer_kwargs={"weight_decay": 0.1}).with_defaults()
    assert full.optimizer_kwargs == {"momentum": 0.9, "weight_decay": 0.1}


def test_defaults_written_out_twice_are_the_same_and_the_original_is_untouched():
    plain = Recipe(optimizer="SGD")
    full = plain.with_defaults()
    assert full.with_defaults() == full
    assert plain.learning_rate is None
    assert plain.optimizer_kwargs == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", 1.5),
        ("epochs", 3.0),
        ("epochs", True),
        ("epochs", "3"),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", -0.1),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("learning_rate", "0.1"),
        ("learning_rate", True),
        ("gradient_clip", 0),
        ("gradient_clip", -1.0),
        ("early_stopping.patience", 0),
        ("early_stopping.min_delta", -1e-9),
        ("early_stopping.mode", "minimize"),
        ("scheduler_configs.interval", "batch"),
        ("scheduler_configs.frequency", 0),
        ("loss_weights.mse", -0.5),
        ("loss_weights.mse", math.nan),
        ("loss_weights.mse", math.inf),
        ("lr_multipliers.head", -1.0),
        ("seed", -1),
        ("seed", 2**63),
        ("data_seed", 0.5),
        ("dropout_seed", "0"),
        ("optimizer", 3),
        ("optimizer", None),
        ("scheduler", 1),
        ("model", 3),
        ("model", None),
        ("early_stopping", 5),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_its_place_and_itself(path, value):
    with pytest.raises(SearchSpaceError) as caught:
        Recipe().with_values({path: value})
    message = str(caught.value)
    assert f"recipe.{path}" in message
    assert repr(value) in message or value is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("epochs", 1),
        ("batch_size", 1),
        ("learning_rate", 1),
        ("learning_rate", 1e-300),
        ("learning_rate", None),
        ("scheduler", None),
        ("gradient_clip", None),
        ("gradient_clip", 1e-9),
        ("loss_weights.mse", 0),
        ("lr_multipliers.head", 0.0),
        ("seed", 0),
        ("seed", 2**63 - 1),
        ("early_stopping.min_delta", 0),
        ("early_stopping", None),
        ("model.sizes", [3, 5]),
        ("model.norm", None),
        ("optimizer_kwargs.betas", [0.9, 0.99]),
    ],
)
def test_a_value_at_its_bound_is_taken(path, value):
    recipe = Recipe().with_values({path: value})
    assert recipe.flat()[path] == value
    assert parse_recipe(recipe.model_dump()) == recipe


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("learning_rte", "learning_rate"),
        ("Epochs", "epochs"),
        ("early_stopping.patince", "patience"),
        ("scheduler_configs.monitr", "monitor"),
        ("modle.channels", "model"),
    ],
)
def test_an_unknown_path_names_the_nearest(path, nearest):
    with pytest.raises(SearchSpaceError, match="Did you mean") as caught:
        Recipe().with_values({path: 1})
    assert nearest in caught.value.hint
    assert path.rpartition(".")[2] in str(caught.value)


@pytest.mark.parametrize("path", ["model.", ".x", "", "epochs.x", "learning_rate.low", "loss.mse"])
def test_a_path_that_no_recipe_has_is_refused(path):
    with pytest.raises(SearchSpaceError):
        Recipe().with_values({path: 1})


@pytest.mark.parametrize(
    "values", [{"model": 3, "model.x": 1}, {"early_stopping": 5, "early_stopping.patience": 3}, {"model": "ab"}]
)
def test_a_section_that_is_no_mapping_is_a_message_and_no_traceback(values):
    with pytest.raises(SearchSpaceError):
        Recipe().with_values(values)


def test_misspelt_keys_of_a_written_recipe_name_their_place():
    with pytest.raises(SearchSpaceError, match=r"recipe\.early_stopping\.patiense.*'patience'"):
        parse_recipe({"early_stopping": {"patiense": 3}})
    with pytest.raises(SearchSpaceError, match=r"recipe\.batchsize.*'batch_size'"):
        parse_recipe({"batchsize": 3})


def test_loss_and_loss_weights_together_are_refused():
    with pytest.raises(SearchSpaceError, match="give one of the two"):
        parse_recipe({"loss": "mse", "loss_weights": {"l1": 1.0}})
    with pytest.raises(SearchSpaceError, match="give one of the two"):
        Recipe(loss="mse").with_values({"loss_weights.l1": 0.5})
    with pytest.raises(SearchSpaceError, match="give one of the two"):
        Recipe(loss_weights={"l1": 0.5}).with_values({"loss": "mse"})


def test_loss_or_loss_weights_alone_are_taken():
    assert parse_recipe({"loss": "mse", "loss_weights": {}}).loss == "mse"
    assert parse_recipe({"loss": None, "loss_weights": {"l1": 2}}).loss_weights == {"l1": 2.0}
    assert parse_recipe({}).loss is None


def test_paths_open_sections_one_level():
    recipe = Recipe(model={"channels": 16, "block": {"depth": 2}}, optimizer_kwargs={"momentum": 0.5})
    flat = recipe.flat()
    assert flat["model.channels"] == 16
    assert flat["model.block"] == {"depth": 2}
    assert flat["optimizer_kwargs.momentum"] == 0.5
    assert flat["scheduler_configs.interval"] == "epoch"
    assert flat["epochs"] == 20


def test_setting_one_option_keeps_the_others_and_the_original():
    before = Recipe(model={"channels": 16, "depth": 2}, early_stopping={"patience": 5, "min_delta": 0.1})
    after = before.with_values({"model.depth": 3, "early_stopping.patience": 7})
    assert after.model == {"channels": 16, "depth": 3}
    assert after.early_stopping.patience == 7
    assert after.early_stopping.min_delta == 0.1
    assert before.model == {"channels": 16, "depth": 2}


def test_one_early_stopping_option_switches_it_on():
    assert Recipe().early_stopping is None
    stopping = Recipe().with_values({"early_stopping.patience": 4}).early_stopping
    assert (stopping.monitor, stopping.patience) == ("val_loss", 4)


OPTIONS = st.dictionaries(
    st.sampled_from(["a", "b", "channels"]),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers()),
)


@given(
    epochs=st.integers(1, 10**6),
    rate=st.none() | st.floats(1e-12, 1e3),
    model=OPTIONS,
    weights=st.dictionaries(st.sampled_from(["mse", "l1"]), st.floats(0, 10)),
    patience=st.none() | st.integers(1, 100),
)
def test_a_recipe_is_made_again_from_its_paths(epochs, rate, model, weights, patience):
    stopping = None if patience is None else {"patience": patience}
    recipe = Recipe(
        epochs=epochs, learning_rate=rate, model=model, loss_weights=weights, early_stopping=stopping, data=model
    )
    assert Recipe().with_values(recipe.flat()) == recipe


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("epochs", "int"),
        ("batch_size", "int"),
        ("seed", "int"),
        ("learning_rate", "float"),
        ("gradient_clip", "float"),
        ("optimizer", "categorical"),
        ("scheduler", "categorical"),
        ("loss", "categorical"),
        ("early_stopping.patience", "int"),
        ("early_stopping.min_delta", "float"),
        ("early_stopping.monitor", "categorical"),
        ("scheduler_configs.frequency", "int"),
        ("scheduler_configs.interval", "categorical"),
        ("loss_weights.mse", "float"),
        ("lr_multipliers.head", "float"),
        ("optimizer_kwargs.momentum", "float"),
        ("optimizer_kwargs.weight_decay", "float"),
        ("scheduler_kwargs.patience", "int"),
        ("scheduler_kwargs.T_max", "int"),
        ("scheduler_kwargs.step_size", "int"),
        ("scheduler_kwargs.gamma", "float"),
        ("model.channels", "int"),
        ("model.tau", "float"),
        ("model.residual", "categorical"),
        ("model.kind", "categorical"),
        ("model.unknown", None),
        ("model.sizes", None),
        ("data.samples", "int"),
    ],
)
def test_a_range_takes_its_type_from_the_field(path, kind):
    fixed = {"channels": 16, "tau": 2.0, "residual": True, "kind": "full", "sizes": [1, 2]}
    recipe = Recipe(model=fixed, data={"samples": 100})
    assert value_type(path, recipe.flat()) == kind
