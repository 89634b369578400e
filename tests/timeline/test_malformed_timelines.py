"""Every malformed timeline gets one message that a person can act on."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuner.errors import SearchSpaceError
from tuner.timeline import Timeline, parse_timeline, read_csv

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text(encoding="utf-8"))
PLACE = "space.yaml: recipe.timeline"
GOOD = "STEP,PHASE,ACTION,learning_rate:log,separate:linear:step\n0,one,,1e-3,0\n100,two,anchor;stop,1e-2,.5\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which `there` holds good.csv and timelines/stepped.csv."""
    (tmp_path / "there" / "timelines").mkdir(parents=True)
    for name in ("good.csv", "timelines/stepped.csv"):
        (tmp_path / "there" / name).write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(case: dict[str, Any], folder: Path) -> None:
    if "csv" in case:
        Path("bad.csv").write_bytes(case["csv"].encode(case.get("encoding", "utf-8")))
    with pytest.raises(SearchSpaceError) as raised:
        parse_timeline(case.get("timeline", "bad.csv"), PLACE, [Path() if "csv" in case else Path("there")])
    error = raised.value
    assert error.place == case["place"]
    assert case["rule"] in error.rule
    assert case.get("hint", "") in error.hint
    if "value" in case:
        assert f"(got {case['value']})" in str(error)
    assert len(str(error).splitlines()) == 1 and len(str(error)) < 300
    assert error.exit_code == 2


def test_the_table_is_whole() -> None:
    names = [case["name"] for case in CASES]
    assert len(names) >= 35
    assert len(set(names)) == len(names)
    keys = {"name", "csv", "timeline", "encoding", "place", "rule", "value", "hint"}
    assert all(
        {"name", "place", "rule"} <= case.keys() <= keys and ("csv" in case) != ("timeline" in case) for case in CASES
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("there/goood.csv", "there/goood.csv: there is no such file. Did you mean 'good.csv'?"),
        ("there/dir/good.csv", "there/dir/good.csv: there is no such file"),
        ("there", "there: a folder, where a CSV file is needed"),
    ],
)
def test_a_file_that_cannot_be_read(name: str, message: str, folder: Path) -> None:
    assert complaint(read_csv, Path(name)) == message


def test_an_absolute_path_that_leads_nowhere(folder: Path) -> None:
    message = complaint(parse_timeline, str(folder / "there" / "godo.csv"), PLACE)
    assert message.startswith(PLACE) and message.endswith("godo.csv'. Did you mean 'good.csv'?")


def complaint(function: Callable[..., Timeline], *arguments: object) -> str:
    """What is wrong, in one short line; "" where a timeline came of it that can be described and read again."""
    try:
        timeline = function(*arguments)
    except SearchSpaceError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 400  # noqa: PT017
        return str(error)
    assert parse_timeline(timeline.describe(), PLACE) == timeline
    return ""


MISTAKES = [
    "",
    ",",
    ";",
    '"',
    "\n",
    "\r",
    "#",
    ":",
    "@",
    "+",
    "-",
    "0",
    "5",
    "+0.5",
    "-3",
    "1e999",
    "nan",
    "\0",
    "é",
    "STEP",
]
FILES = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FILES
@given(seed=st.integers(0, 2**32), mistakes=st.integers(1, 4))
def test_a_mistake_in_a_file_is_an_error_that_names_it_or_none(seed: int, mistakes: int, folder: Path) -> None:
    text, chance = GOOD, random.Random(seed)
    for _ in range(mistakes):
        start = chance.randrange(len(text) + 1)
        text = text[:start] + chance.choice(MISTAKES) + text[start + chance.randrange(4) :]
    check_bytes(text.encode())


@FILES
@given(content=st.binary(max_size=60) | st.text(',"\n\r#:;+-.01eSTEPx ', max_size=60).map(str.encode))
def test_any_bytes_are_a_timeline_or_an_error(content: bytes, folder: Path) -> None:
    check_bytes(content)
    check_bytes(b"STEP,x,PHASE\n0,1,\n" + content)


def check_bytes(content: bytes) -> None:
    """These bytes as bad.csv make a timeline, or a message that names the file."""
    Path("bad.csv").write_bytes(content)
    message = complaint(read_csv, Path("bad.csv"))
    assert message == "" or message.startswith("bad.csv: ")


CELLS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([10**400, "+1", "+0.5"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
KEYS = st.sampled_from(
    ["STEP", "PHASE", "ACTION", "lr", "lr:log", "file", "steps", "name", "keyframes", "lr@0", "lr@x"]
)


@settings(deadline=None, max_examples=150)
@given(
    value=CELLS
    | st.dictionaries(KEYS | st.none(), CELLS, max_size=3)
    | st.fixed_dictionaries(
        {"keyframes": st.lists(st.dictionaries(KEYS, CELLS, max_size=4), max_size=3)},
        optional={"steps": CELLS, "lr@0": CELLS, "name": CELLS},
    )
)
def test_any_value_is_a_timeline_or_an_error(value: object) -> None:
    message = complaint(parse_timeline, value, PLACE)
    assert message == "" or message.startswith(PLACE)
