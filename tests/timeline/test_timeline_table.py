"""Tables of keyframes: what a cell means, from CSV and from YAML, and that nothing is lost on the way back."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tuner.timeline import INTERPOLATIONS, SPACES, Curve, Timeline, parse_timeline, read_csv, to_csv

FILES = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SMOOTH = """\
# Learning rates by hand.
# steps: 1000
STEP, PHASE,     ACTION, learning_rate:log, separate, momentum:linear:step
0,    Warm up,   ,       1e-4,              ,         0.5

+10,  ,          ,       1e-2,              0,
  # the middle
+0.5, ,          anchor; shrink, ,          0.2,      0.9
-5,   "All, of it", ,    ,                  ,
1000, ,          ,       1e-3,              0,
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "smooth.csv"


def read(file: Path, text: str, encoding: str = "utf-8") -> Timeline:
    file.write_bytes(text.encode(encoding))
    return replace(read_csv(file), name="")


def rows_of(*steps: object) -> dict[str, object]:
    return {"keyframes": [{"STEP": step, "x": number} for number, step in enumerate(steps)]}


def steps_of(*steps: object) -> list[float]:
    return [step for step, _ in parse_timeline(rows_of(*steps), "here").curves["x"].keys]


def test_a_file_by_hand(file: Path) -> None:
    timeline = read(file, SMOOTH)
    assert timeline.steps == 1000
    assert list(timeline.curves) == ["learning_rate", "separate", "momentum"]
    assert timeline.curves["learning_rate"] == Curve("log", "minjerk", ((0, 1e-4), (10, 1e-2), (1000, 1e-3)))
    assert timeline.curves["separate"] == Curve("linear", "minjerk", ((10, 0), (500, 0.2), (1000, 0)))
    assert timeline.curves["momentum"] == Curve("linear", "step", ((0, 0.5), (500, 0.9)))
    assert timeline.phases == ((0, "Warm up"), (995, "All, of it"))
    assert timeline.actions == ((500, "anchor"), (500, "shrink"))


def test_a_file_is_named_by_its_path_as_given(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(file, SMOOTH)
    monkeypatch.chdir(file.parent)
    assert read_csv(Path("smooth.csv")).name == "smooth.csv"
    assert parse_timeline("smooth.csv", "here").name == "smooth.csv"
    assert parse_timeline({"file": "smooth.csv", "name": "mine"}, "here").name == "mine"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_line_endings_and_byte_order_marks_do_not_matter(file: Path, ending: str, encoding: str) -> None:
    assert read(file, SMOOTH.replace("\n", ending), encoding) == read(file, SMOOTH)


def test_what_a_spreadsheet_adds_does_not_matter(file: Path) -> None:
    padded = SMOOTH.replace("# steps: 1000", "# steps: 1000,,,,,").replace("\n\n", "\n,,,,,\n")
    assert read(file, padded) == read(file, SMOOTH)


def test_a_quoted_name_may_hold_anything(file: Path) -> None:
    timeline = read(file, 'STEP,PHASE\n0,"one ""two"",\n# no comment\r\n,,"\n5,b\n')
    assert timeline.phases == ((0, 'one "two",\n# no comment\r\n,,'), (5, "b"))


def test_rows_in_yaml_are_the_same_table(file: Path) -> None:
    rows = [
        {"STEP": 0, "PHASE": "Warm up", "learning_rate:log": 1e-4, "momentum:linear:step": 0.5},
        {"STEP": "+10", "learning_rate:log": "1e-2", "separate": 0},
        {"STEP": "+0.5", "ACTION": "anchor;shrink", "separate": 0.2, "momentum:linear:step": 0.9, "PHASE": None},
        {"STEP": "-5", "PHASE": "All, of it", "separate": ""},
        {"STEP": 1000.0, "learning_rate:log": 0.001, "separate": 0},
    ]
    assert parse_timeline({"steps": 1000, "keyframes": rows}, "here") == read(file, SMOOTH)


@pytest.mark.parametrize(
    ("steps", "resolved"),
    [
        ((0, "+5", 10), [0, 5, 10]),
        ((0, "+5", "+7", 10), [0, 5, 7, 10]),
        ((0, "-5", "-1", 10), [0, 5, 9, 10]),
        (("-5", 10), [5, 10]),
        ((100, "+5"), [100, 105]),
        ((100, "+0.25", "+0.5", 300), [100, 150, 200, 300]),
        ((0, "+0.25", 1), [0, 0.25, 1]),
        ((3, "+2", "+0.5", "-2", 13), [3, 5, 8, 11, 13]),
        ((0, "+1e-2", 100), [0, 1, 100]),
        (("1e3", " 2000 ", 3000.0), [1000, 2000, 3000]),
    ],
)
def test_relative_and_fractional_steps(steps: tuple[object, ...], resolved: list[float]) -> None:
    assert steps_of(*steps) == resolved


@settings(deadline=None)
@given(
    steps=st.lists(st.integers(0, 10**9), min_size=2, max_size=12, unique=True).map(sorted),
    kinds=st.lists(st.sampled_from(["absolute", "after", "before"]), min_size=12, max_size=12),
)
def test_steps_may_be_written_from_the_absolute_rows_around_them(steps: list[int], kinds: list[str]) -> None:
    kinds[0] = kinds[len(steps) - 1] = "absolute"
    absolute = [step for step, kind in zip(steps, kinds, strict=False) if kind == "absolute"]
    written: list[object] = []
    for step, kind in zip(steps, kinds, strict=False):
        above, below = max(a for a in absolute if a <= step), min(a for a in absolute if a >= step)
        written.append({"absolute": step, "after": f"+{step - above}", "before": f"-{below - step}"}[kind])
    assert steps_of(*written) == steps


@settings(deadline=None)
@given(first=st.integers(0, 10**6), length=st.integers(1, 10**6), eighths=st.sets(st.integers(1, 7), min_size=1))
def test_a_fraction_is_of_the_way_between_absolute_rows(first: int, length: int, eighths: set[int]) -> None:
    written = [f"+{part / 8}" for part in sorted(eighths)]
    resolved = [first + length * part / 8 for part in sorted(eighths)]
    assert steps_of(first, *written, first + length) == [first, *resolved, first + length]


def test_a_phase_said_again_goes_on(file: Path) -> None:
    assert read(file, "STEP,PHASE\n0,a\n1,a\n2,b\n3,a\n").phases == ((0, "a"), (2, "b"), (3, "a"))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).map(str.strip).filter(bool)
NAMES = TEXT.filter(lambda name: ":" not in name and name.upper() not in ("STEP", "PHASE", "ACTION"))
STEPS = st.one_of(st.integers(0, 20).map(float), st.integers(0, 2**53).map(float), st.floats(0, 1e9), st.floats(0, 1))


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Any timeline, at steps that need not be whole, with any names and any floats."""

    def at_steps(contents: st.SearchStrategy[object], least: int = 0) -> list[tuple[float, object]]:
        steps = draw(st.lists(STEPS, min_size=least, max_size=4, unique=True))
        return [(step, draw(contents)) for step in sorted(steps)]

    curves = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        space = draw(st.sampled_from(SPACES))
        above = {"min_value": 0, "exclude_min": True} if space == "log" else {}
        values = st.floats(allow_nan=False, allow_infinity=False, **above)
        curves[name] = Curve(space, draw(st.sampled_from(INTERPOLATIONS)), tuple(at_steps(values, 1)))
    phases = at_steps(TEXT)
    changes = [entry for index, entry in enumerate(phases) if not index or phases[index - 1][1] != entry[1]]
    actions = [(step, name) for step, names in at_steps(st.lists(TEXT, min_size=1, max_size=2)) for name in names]
    actions = [(step, name) for step, name in actions if ";" not in name]
    ends = [step for curve in curves.values() for step, _ in curve.keys] + [step for step, _ in (*phases, *actions)]
    length = draw(st.none() | st.integers(max(1, math.ceil(max(ends))), 2**53))
    return Timeline("", length, curves, tuple(changes), tuple(actions))


AWKWARD = Timeline(
    "",
    1,
    {'a "b", c\n#d': Curve("log", "minjerk", ((0.1, 5e-324), (0.1 + 0.2, 0.1 + 0.2), (1.0, 1.7976931348623157e308)))},
    ((0.0, "# one\r# two"), (1e-300, "\x00,;")),
    ((0.30000000000000004, "a"), (0.30000000000000004, "b, c")),
)


@FILES
@given(timeline=timelines())
@example(timeline=AWKWARD)
def test_csv_round_trips(timeline: Timeline, file: Path) -> None:
    again = read(file, to_csv(timeline))
    assert again == timeline
    assert list(again.curves) == list(timeline.curves)
    assert to_csv(again) == to_csv(timeline)


@settings(deadline=None)
@given(timeline=timelines())
@example(timeline=AWKWARD)
def test_a_description_round_trips_through_json(timeline: Timeline) -> None:
    described = json.loads(json.dumps(timeline.describe(), allow_nan=False))
    again = parse_timeline(described, "here")
    assert again == timeline
    assert list(again.curves) == list(timeline.curves)
    assert json.loads(json.dumps(again.describe())) == described


def test_a_description_is_canonical(file: Path) -> None:
    text = "STEP,b:linear:minjerk,PHASE,a:log:minjerk\n5,,,2\n+5,1,x,\n20,,x,1\n+10,,,\n"
    assert read(file, text).describe() == {
        "name": "",
        "steps": None,
        "keyframes": [
            {"STEP": 5, "b": None, "a:log": 2.0},
            {"STEP": 10, "PHASE": "x", "b": 1.0},
            {"STEP": 20, "a:log": 1.0},
        ],
    }


def test_a_step_that_is_not_whole_is_a_fraction_between_whole_ones() -> None:
    described = parse_timeline(rows_of(0, "+0.25", 10), "here").describe()
    assert [row["STEP"] for row in described["keyframes"]] == [0, 2, "+0.5", 3, 10]


def test_steps_stand_in_a_mapping_instead_of_the_files_own(file: Path) -> None:
    read(file, SMOOTH)
    assert parse_timeline(str(file), "here").steps == 1000
    assert parse_timeline({"file": str(file), "steps": 5000}, "here").steps == 5000
    assert parse_timeline({"file": str(file), "steps": None}, "here").steps is None


def test_other_keys_that_are_null_are_not_given(file: Path) -> None:
    read(file, SMOOTH)
    given = {"file": str(file), "keyframes": None, "name": None}
    assert parse_timeline(given, "here") == parse_timeline(str(file), "here")


def test_a_file_is_looked_for_in_folders_in_order(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for number, folder in enumerate(folders):
        folder.mkdir()
        if number:
            (folder / "x.csv").write_text(f"STEP,x\n0,{number}\n")
    assert parse_timeline("x.csv", "here", folders).at(0, 1) == {"x": 1.0}
    assert parse_timeline(str(folders[2] / "x.csv"), "here", folders).at(0, 1) == {"x": 2.0}
