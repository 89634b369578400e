"""Derived values and constraints: right arithmetic, and nothing but arithmetic."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import SearchSpaceError
from tuner.search_space.expression import Expression

VALUES = {
    "model.heads": 4,
    "model.head_dim": 8,
    "model.kind": "full",
    "epochs": 30,
    "learning_rate": 0.01,
    "optimizer": "SGD",
    "gradient_clip": None,
}


def evaluate(text: object, values: dict[str, object] = VALUES) -> object:
    return Expression.parse(text, "space.yaml: derived.x").evaluate(values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model.heads * model.head_dim", 32),
        ("model.heads * model.head_dim <= 256", True),
        ("epochs // 7 + epochs % 7", 6),
        ("-epochs / 4", -7.5),
        ("2 ** model.heads", 16),
        ("(model.heads + 1) * 2", 10),
        ("1 < epochs <= 30", True),
        ("1 < epochs < 30", False),
        ("not epochs > 3", False),
        ("epochs > 3 and learning_rate < 0.001", False),
        ("epochs > 3 or learning_rate < 0.001", True),
        ("optimizer == 'SGD'", True),
        ("optimizer != 'SGD'", False),
        ("epochs if model.kind == 'full' else 1", 30),
        ("gradient_clip == None", True),
        ("min(epochs, model.heads)", 4),
        ("max(epochs, model.heads, 40)", 40),
        ("abs(-3)", 3),
        ("round(2.6)", 3),
        ("int(3.9)", 3),
        ("float(3)", 3.0),
        ("sqrt(16)", 4.0),
        ("log2(8)", 3.0),
        ("log10(1000)", 3.0),
        ("log(exp(2))", 2.0),
        ("floor(2.9) + ceil(2.1)", 5),
        (7, 7),
        (0.5, 0.5),
    ],
)
def test_arithmetic_comparisons_and_functions(text, expected):
    found = evaluate(text)
    assert found == (pytest.approx(expected) if isinstance(expected, float) else expected)
    assert type(found) is type(expected)


def leaves() -> st.SearchStrategy[str]:
    return st.sampled_from(["a", "model.b", "c"]) | st.integers(-9, 9).map(lambda number: f"({number})")


ARITHMETIC = st.recursive(
    leaves(),
    lambda inner: (
        st.builds(
            "({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "<", "<=", "==", "!=", "and", "or"]), inner
        )
        | st.builds("(not {})".format, inner)
        | st.builds("(-{})".format, inner)
        | st.builds("min({}, {})".format, inner, inner)
        | st.builds("({} if {} else {})".format, inner, inner, inner)
    ),
    max_leaves=8,
)


@given(ARITHMETIC, st.integers(-5, 5), st.integers(-5, 5), st.floats(-5, 5))
def test_an_expression_gives_what_python_gives(text, a, b, c):
    expected = eval(text.replace("model.b", "b"), {"min": min}, {"a": a, "b": b, "c": c})
    assert evaluate(text, {"a": a, "model.b": b, "c": c}) == expected


def test_names_are_dotted_and_without_functions():
    names = Expression.parse("min(model.heads, 3) * model.head_dim + epochs", "x").names()
    assert names == ["model.heads", "model.head_dim", "epochs"]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "__import__('os')",
        "open('x', 'w')",
        "eval('1')",
        "exec('1')",
        "getattr(model, 'heads')",
        "model.__class__",
        "model.heads.__class__",
        "model.heads.real",
        "(1).__class__",
        "''.__class__.__mro__",
        "'{0.__class__}'.format(1)",
        "optimizer.upper()",
        "min.__self__",
        "model.__dict__",
        "lambda: 1",
        "(lambda: 1)()",
        "[x for x in (1, 2)]",
        "sum(x for x in (1, 2))",
        "{x: 1 for x in (1, 2)}",
        "(x := 3)",
        "epochs = 3",
        "import os",
        "foo(1)",
        "unknown + 1",
        "model.headz",
        "model",
        "epochs +",
        "1 +* 2",
        "",
        "1; 2",
        "1 / 0",
        "log(0)",
        "sqrt(-1)",
        "exp(100000)",
        "optimizer * 1.5",
        "gradient_clip > 1",
        "int('a')",
        "min()",
    ],
)
def test_what_is_no_arithmetic_is_refused_at_its_place(text):
    with pytest.raises(SearchSpaceError) as caught:
        evaluate(text)
    assert "space.yaml: derived.x" in str(caught.value)


@pytest.mark.parametrize("text", [None, True, [1], {"a": 1}])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(SearchSpaceError, match="must be an expression"):
        evaluate(text)


def test_nothing_is_executed(tmp_path):
    mark = tmp_path / "executed"
    for text in (f"open({str(mark)!r}, 'w')", f"__import__('pathlib').Path({str(mark)!r}).touch()"):
        with pytest.raises(SearchSpaceError):
            evaluate(text)
    assert not mark.exists()


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(SearchSpaceError, match=r"no value 'model\.headz'.*'model\.heads'"):
        evaluate("model.headz * 2")


BOMBS = [
    "9**9**9",
    "9**9**9**9",
    "(9**9)**(9**9)",
    "2**10**10",
    "1 << 10**10",
    "'a' * 10**10",
    "10**10 * 'a'",
    "('a' * 99999) * 99999",
    "[0] * 10**10",
    "(1,) * 10**10",
    "[x for x in range(10**10)]",
    "int('9' * 100000)",
    "(" * 500 + "1" + ")" * 500,
    "-" * 100000 + "1",
    "1" + "+1" * 100000,
    "a\x00b",
]

RUN_BOMBS = """
import json, resource, sys
from tuner.errors import SearchSpaceError
from tuner.search_space.expression import Expression
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
for text in json.loads(sys.stdin.read()):
    try:
        found = "value " + repr(type(Expression.parse(text, "x").evaluate({})))
    except SearchSpaceError:
        found = "refused"
    except BaseException as error:
        found = "raised " + type(error).__name__
    print(json.dumps([text[:40], found]), flush=True)
"""


def test_bombs_are_refused_at_once():
    done = subprocess.run(
        [sys.executable, "-c", RUN_BOMBS], input=json.dumps(BOMBS), capture_output=True, text=True, timeout=30
    )
    outcome = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcome) == len(BOMBS), done.stderr[-500:]
    assert [(text, found) for text, found in outcome if found != "refused"] == []


def test_a_whole_number_stays_one():
    assert type(evaluate("model.heads * model.head_dim")) is int
    assert math.isclose(evaluate("model.heads / model.head_dim"), 0.5)
