"""YAML as people write it, `--set`, and durations."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import SearchSpaceError, UsageError
from tuner.search_space.settings import parse_duration, parse_settings
from tuner.search_space.yaml_file import dump_yaml, parse_yaml, read_yaml


def value_of(text: str) -> object:
    return parse_yaml(f"key: {text}", "space.yaml")["key"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e-3", 0.001),
        ("1E-3", 0.001),
        ("1e3", 1000.0),
        ("1e+3", 1000.0),
        ("-2.5e-4", -0.00025),
        ("1.0e-3", 0.001),
        ("1.e-3", 0.001),
        (".5", 0.5),
        (".5e-2", 0.005),
        ("0.1", 0.1),
    ],
)
def test_numbers_as_people_write_them(text, number):
    found = value_of(text)
    assert isinstance(found, float)
    assert found == number


@pytest.mark.parametrize(
    "text", ["on", "off", "yes", "no", "On", "OFF", "y", "n", "2024-01-02", "2024-01-02 10:11:12", "e-3", "1e", "1e-"]
)
def test_words_and_dates_stay_strings(text):
    assert value_of(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("false", False), ("True", True), ("null", None), ("~", None), ("", None), ("12", 12)],
)
def test_plain_values(text, expected):
    found = value_of(text)
    assert found == expected and type(found) is type(expected)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_that_python_writes_is_read_back(number):
    assert value_of(repr(number)) == number


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.sampled_from(
        ["on", "no", "1e-3", "2024-01-02", "true", "null", "", "a b", "1", "0.5", "#x", "a: b", "é"]
    ),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["a", "b", "on", "1e3", "no"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(JSON)
def test_what_is_dumped_is_read_back_by_us(value):
    assert parse_yaml(dump_yaml(value), "x") == value


@pytest.mark.parametrize(
    "text", ["a: 1\nb: 2\na: 3\n", "top: {x: 1, x: 2}\n", "- 1\n- {k: 1,\n   k: 1}\n", "1: a\n1: b\n"]
)
def test_a_key_given_twice_is_refused_at_its_line(text):
    with pytest.raises(SearchSpaceError, match="given twice") as caught:
        parse_yaml(text, "space.yaml")
    assert caught.value.place.startswith("space.yaml:")


def test_the_line_and_column_are_those_of_the_second_key():
    with pytest.raises(SearchSpaceError, match=r"space\.yaml:3:3"):
        parse_yaml("outer:\n  lr: 1\n  lr: 2\n", "space.yaml")


def test_the_same_key_in_two_mappings_is_fine():
    assert parse_yaml("a: {x: 1}\nb: {x: 1}\n", "s") == {"a": {"x": 1}, "b": {"x": 1}}


def test_a_merge_key_works_as_in_yaml():
    text = "base: &base {low: 1, high: 2}\nother: {<<: *base, high: 3}\n"
    assert parse_yaml(text, "s")["other"] == yaml.safe_load(text)["other"] == {"low": 1, "high": 3}


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "a: {b: 1",
        "a:\n\t- b",
        "a: b: c",
        "a: *nowhere",
        "? [1, 2]\n: x",
        "? {a: 1}\n: x",
        "a: !!python/object/apply:os.system ['true']",
        "a: &a [*a]",
        "a: \x00",
        "a: 'open",
        "[" * 3000,
        "- " * 3000,
        "--- 1\n--- 2\n",
    ],
)
def test_bad_yaml_is_one_message_at_its_place(text):
    with pytest.raises(SearchSpaceError) as caught:
        parse_yaml(text, "space.yaml")
    assert str(caught.value).startswith("space.yaml")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "digits.yaml").write_text("a: 1\n")
    (tmp_path / "noise.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(SearchSpaceError, match=r"no such file.*Did you mean 'digits\.yaml'"):
        read_yaml(tmp_path / "digit.yaml")
    with pytest.raises(SearchSpaceError, match="no such file"):
        read_yaml(tmp_path / "nowhere" / "digits.yaml")
    with pytest.raises(SearchSpaceError, match="folder"):
        read_yaml(tmp_path)
    with pytest.raises(SearchSpaceError, match=r"noise\.yaml.*not a text file"):
        read_yaml(tmp_path / "noise.yaml")
    assert read_yaml(tmp_path / "digits.yaml") == {"a": 1}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["epochs=3"], {"epochs": 3}),
        (["learning_rate=1e-3"], {"learning_rate": 0.001}),
        (["learning_rate=0.01", "epochs=3"], {"learning_rate": 0.01, "epochs": 3}),
        (["optimizer=SGD"], {"optimizer": "SGD"}),
        (["scheduler=null"], {"scheduler": None}),
        (["scheduler="], {"scheduler": None}),
        (["model.flag=true"], {"model.flag": True}),
        (["model.word=no"], {"model.word": "no"}),
        (["model.sizes=[1,2,3]"], {"model.sizes": [1, 2, 3]}),
        (["model.text='a=b'"], {"model.text": "a=b"}),
        (["optimizer_kwargs.momentum=0.9"], {"optimizer_kwargs.momentum": 0.9}),
        (
            ["optimizer_kwargs={momentum:0.9,weight_decay:0.0001}"],
            {"optimizer_kwargs.momentum": 0.9, "optimizer_kwargs.weight_decay": 0.0001},
        ),
        (
            ["optimizer_kwargs={momentum: 0.9, weight_decay: 1e-4}"],
            {"optimizer_kwargs.momentum": 0.9, "optimizer_kwargs.weight_decay": 0.0001},
        ),
        (
            ["optimizer_kwargs={momentum:0.9, weight_decay: 1e-4}"],
            {"optimizer_kwargs.momentum": 0.9, "optimizer_kwargs.weight_decay": 0.0001},
        ),
        (['optimizer_kwargs={"momentum":0.9}'], {"optimizer_kwargs.momentum": 0.9}),
        (
            ["optimizer_kwargs={betas:[0.9,0.99],amsgrad:true}"],
            {"optimizer_kwargs.betas": [0.9, 0.99], "optimizer_kwargs.amsgrad": True},
        ),
        (["early_stopping={patience:3}"], {"early_stopping.patience": 3}),
        (["model={block:{depth:2,width:3}}"], {"model.block": {"depth": 2, "width": 3}}),
        (["epochs=3", "epochs=5"], {"epochs": 5}),
        ([" epochs = 3 "], {"epochs": 3}),
        ([], {}),
    ],
)
def test_settings(settings, expected):
    assert parse_settings(settings) == expected


@pytest.mark.parametrize("setting", ["epochs", "", "=3", " =3"])
def test_a_setting_without_a_key_or_a_value_is_refused(setting):
    with pytest.raises(UsageError, match="key=value"):
        parse_settings([setting])


@pytest.mark.parametrize("setting", ["model={a:1", "model=[1", "model={a: 1, a: 2}", "model={a:1,a:2}"])
def test_a_setting_of_bad_yaml_names_the_setting(setting):
    with pytest.raises(SearchSpaceError, match="--set model"):
        parse_settings([setting])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7200),
        ("1h30m", 5400),
        ("90", 90),
        ("45s", 45),
        ("2d", 172800),
        ("1d2h3m4s", 93784),
        ("1.5h", 5400),
        ("0.5", 0.5),
        ("1h 30m", 5400),
        (90, 90),
        (0.25, 0.25),
        ("100m", 6000),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "0", "0s", "0h0m", "-5", "-1h", "abc", "5x", "h", "30m1h", "1h1h", "1,5h", "nan", "inf", "1:30", "5 minutes"],
)
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="1h30m") as caught:
        parse_duration(text)
    assert "--time" in str(caught.value)


@pytest.mark.parametrize("number", [0, -1, 0.0, float("nan"), float("inf"), True])
def test_numbers_that_are_no_duration_are_refused(number):
    with pytest.raises(UsageError):
        parse_duration(number)
