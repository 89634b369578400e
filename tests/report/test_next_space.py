"""`tuner analyze --next FILE`: the search space that follows from advice can be searched, and says why it is so."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from optuna.distributions import FloatDistribution, IntDistribution

from tuner.analysis import Analysis, StudyData, analyze_data
from tuner.analysis.advice import Advice, Change
from tuner.errors import UsageError
from tuner.report.next_space import write_next
from tuner.search_space import SearchSpace, Target, build_space, find_target
from tuner.search_space.file import SpaceFile
from tuner.storage.records import EPOCH_COLUMNS, Records

SEARCH: dict[str, Any] = {
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "optimizer": {"choices": ["Adam", "SGD"]},
    "optimizer_kwargs.momentum": {"low": 0.5, "high": 0.95, "when": {"optimizer": "SGD"}},
    "batch_size": {"choices": [16, 32, 64]},
    "model.hidden": {"low": 8, "high": 64, "step": 8},
}
RECIPE = {"epochs": 5, "loss": "cross_entropy"}
Written = Callable[..., "Next"]


class Next:
    """A file that was written: its text, what it says, the space that is made of it, and the lines printed."""

    def __init__(self, path: Path, lines: list[str]) -> None:
        self.text, self.lines = path.read_text(), lines
        self.content = yaml.safe_load(self.text)
        self.mode = self.content["modes"]["full"]
        self.space: SearchSpace = build_space(find_target(str(path)), "full")

    def above(self, start: str) -> list[str]:
        """The comments right above the line that starts so."""
        lines = [line.strip() for line in self.text.splitlines()]
        place = next(place for place, line in enumerate(lines) if line.startswith(start))
        found: list[str] = []
        while lines[place - 1 - len(found)].startswith("# "):
            found.insert(0, lines[place - 1 - len(found)].removeprefix("# "))
        return found


def stored(
    search: dict[str, Any] | None = None,
    task: str = "digits",
    place: str = "space.yaml",
    budget: dict[str, Any] | None = None,
    file: dict[str, Any] | None = None,
    **mode: Any,
) -> StudyData:
    """A study of such a space, as it is stored, without a trial."""
    head = {"task": task, "metric": "val_accuracy", "recipe": RECIPE} | (file or {})
    full = {"trials": 20, "search": SEARCH if search is None else search} | mode
    space = build_space(Target(task, SpaceFile.model_validate({**head, "modes": {"full": full}}), place), "full")
    return data_of({"space": json.loads(json.dumps(space.describe())), "budget": budget or {"trials": 20}})


def data_of(attributes: dict[str, Any], name: str = "digits-full") -> StudyData:
    none = pd.DatetimeIndex([])
    reports = pd.DataFrame({"trial": np.zeros(0, int), "step": np.zeros(0, int), "value": np.zeros(0)})
    return StudyData(
        Records(
            name, ("MAXIMIZE",), attributes, [], np.zeros(0), none, none, {}, {}, {}, reports,
            pd.DataFrame(columns=list(EPOCH_COLUMNS)),
        )
    )  # fmt: skip


def advised(data: StudyData, *advice: Advice) -> Analysis:
    return replace(analyze_data(data), advice=advice)


def say(change: Change | None, do: str = "do it", why: str = "it is so") -> Advice:
    return Advice("kind", None, do, why, {}, change)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Writes the space that follows from changes."""

    def write(*changes: Change | Advice, data: StudyData | None = None, path: Path | None = None) -> Next:
        data, path = data or stored(), path or tmp_path / "next.yaml"
        advice = [say(entry) if isinstance(entry, Change) else entry for entry in changes]
        return Next(path, write_next(data, advised(data, *advice), path, Path("studies")))

    return write


def test_without_advice_the_space_is_the_studys_own(written: Written) -> None:
    found = written()
    old = stored().space
    assert found.mode["search"] == old["search"]
    described = json.loads(json.dumps(found.space.describe()))
    assert {key: value for key, value in described.items() if key != "place"} == old
    assert found.mode["trials"] == 20
    assert found.lines == [
        found.lines[0],
        f"  tuner full digits --space {found.lines[0].partition(':')[0]} --study digits-full-next "
        "--warm-start digits-full",
    ]
    assert "which no advice changes" in found.lines[0]


CHANGES: dict[str, tuple[Change, dict[str, Any], dict[str, Any]]] = {
    "a range widened": (
        Change(search={"learning_rate": {"high": 1.0}}),
        {"learning_rate": {"type": "float", "low": 1e-4, "high": 1.0, "log": True}},
        {},
    ),
    "a range narrowed": (
        Change(search={"model.hidden": {"high": 32}}),
        {"model.hidden": {"type": "int", "low": 8, "high": 32, "step": 8}},
        {},
    ),
    "a longer list": (
        Change(search={"batch_size": {"choices": [16, 32, 64, 128]}}),
        {"batch_size": {"choices": [16, 32, 64, 128]}},
        {},
    ),
    "a range made a list": (
        Change(
            search={"model.hidden": {"choices": [8, 12, 16], **dict.fromkeys(["type", "low", "high", "step", "log"])}}
        ),
        {"model.hidden": {"choices": [8, 12, 16]}},
        {},
    ),
    "a number fixed": (Change(fixed={"learning_rate": 0.003}), {"learning_rate": None}, {"learning_rate": 0.003}),
    "an option fixed": (Change(fixed={"model.hidden": 24}), {"model.hidden": None}, {"model": {"hidden": 24}}),
    "more epochs": (Change(recipe={"epochs": 10}), {}, {"epochs": 10}),
    "gradients clipped": (Change(recipe={"gradient_clip": 1.0}), {}, {"gradient_clip": 1.0}),
    "a scheduler": (
        Change(recipe={"scheduler": "ReduceLROnPlateau", "scheduler_kwargs": {"factor": 0.5, "patience": 2}}),
        {},
        {"scheduler": "ReduceLROnPlateau", "scheduler_kwargs": {"factor": 0.5, "patience": 2}},
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_is_in_the_file_with_its_reason_and_can_be_searched(kind: str, written: Written) -> None:
    change, search, recipe = CHANGES[kind]
    found = written(say(change, "change this", "the trials say so"))
    expected = {**stored().space["search"], **search}
    assert found.mode["search"] == {path: entry for path, entry in expected.items() if entry is not None}
    for key, value in recipe.items():
        assert found.content["recipe"][key] == value
    paths = [*change.search]
    assert found.above(f"{paths[0]}:" if paths else "recipe:") == ["change this: the trials say so"]
    assert "changed by 1 piece of advice" in found.lines[0]
    assert set(found.mode["search"]) == {entry.path for entry in found.space.parameters}
    assert found.text.count("# ") == 2


def test_one_more_key_of_a_section_leaves_its_others(written: Written) -> None:
    plateau = {"scheduler": "ReduceLROnPlateau", "scheduler_kwargs": {"factor": 0.5, "patience": 10}}
    data = stored(file={"recipe": {**RECIPE, **plateau}})
    found = written(Change(recipe={"scheduler_kwargs.patience": 2}), data=data)
    assert found.content["recipe"]["scheduler_kwargs"] == {"factor": 0.5, "patience": 2}


def test_more_trials_are_a_larger_budget_told_at_the_top(written: Written) -> None:
    found = written(say(Change(trials=50), "go on to 50 trials", "20 are few"))
    assert found.mode["trials"] == 50
    assert found.text.splitlines()[1] == "#   go on to 50 trials: 20 are few"
    assert written(Change(trials=10), path=Path(f"{found.lines[0].partition(':')[0]}.2.yaml")).mode["trials"] == 20


def test_several_changes_of_one_parameter_are_all_made(written: Written) -> None:
    found = written(
        say(Change(search={"learning_rate": {"high": 1.0}}), "widen"),
        say(Change(search={"learning_rate": {"low": 1e-3}}), "narrow"),
    )
    assert found.mode["search"]["learning_rate"] == {"type": "float", "low": 1e-3, "high": 1.0, "log": True}
    assert found.above("learning_rate:") == ["widen: it is so", "narrow: it is so"]


def chosen(*choices: Any) -> Change:
    return Change(search={"batch_size": {"choices": list(choices)}})


CHOSEN: dict[str, tuple[list[Change], list[int] | int]] = {
    "widened, then narrowed": ([chosen(16, 32, 64, 128), chosen(32, 64)], [32, 64, 128]),
    "widened below, then narrowed": ([chosen(8, 16, 32, 64), chosen(16, 32)], [8, 16, 32]),
    "bounded, then narrowed": ([chosen(16, 32), chosen(32, 64)], 32),
    "bounded, then all but one dropped": ([chosen(16, 32), Change(fixed={"batch_size": 16})], 16),
    "widened, then all but one dropped": ([chosen(16, 32, 64, 128), Change(fixed={"batch_size": 64})], [64, 128]),
    "narrowed, then made finer": ([chosen(16, 32), chosen(16, 22, 32, 45, 64)], [16, 22, 32, 45]),
    "bounded, then fixed beyond": ([chosen(16, 32), Change(fixed={"batch_size": 64})], [16, 32]),
    "bounded, then narrowed to what is beyond": ([chosen(16, 32), chosen(64)], [16, 32]),
}


@pytest.mark.parametrize("kind", CHOSEN)
def test_no_advice_about_choices_undoes_an_earlier_one(kind: str, written: Written) -> None:
    changes, expected = CHOSEN[kind]
    found = written(*changes)
    if isinstance(expected, list):
        assert found.mode["search"]["batch_size"] == {"choices": expected}
    else:
        assert "batch_size" not in found.mode["search"] and found.content["recipe"]["batch_size"] == expected
    left_out = kind.endswith("beyond")
    assert found.text.count("# do it") == (1 if left_out else 2), "only what was followed is told"


def test_an_end_moved_in_twice_is_where_it_is_narrower(written: Written) -> None:
    moves = [Change(search={"model.hidden": {"high": high, "low": low}}) for high, low in ((32, 24), (40, 16))]
    assert written(*moves).mode["search"]["model.hidden"] == {"type": "int", "low": 24, "high": 32, "step": 8}


def test_a_range_that_was_narrowed_and_is_made_a_list_stays_narrow(written: Written) -> None:
    listed = {"choices": [8, 12, 16, 64], **dict.fromkeys(["type", "low", "high", "step", "log"])}
    found = written(Change(search={"model.hidden": {"high": 32}}), Change(search={"model.hidden": listed}))
    assert found.mode["search"]["model.hidden"] == {"choices": [8, 12, 16]}


@pytest.mark.parametrize("maximize", [True, False])
def test_what_the_rules_say_of_a_study_can_be_searched(maximize: bool, written: Written) -> None:
    """The advice of a study with trials: the middle of three levels is best, the rate is best at its upper end."""
    search = {"learning_rate": SEARCH["learning_rate"], "model.hidden": {"low": 8, "high": 40, "step": 16}}
    place = np.random.default_rng(0).permutation(90) / 89
    level = np.arange(90) % 3
    better = 2 * place + 3.0 * (level == 1) + 0.1 * np.random.default_rng(1).normal(size=90)
    empty = stored(search).records
    records = replace(
        empty,
        directions=("MAXIMIZE" if maximize else "MINIMIZE",),
        states=["COMPLETE"] * 90,
        values=better if maximize else -better,
        started=pd.DatetimeIndex([pd.NaT] * 90),
        completed=pd.DatetimeIndex([pd.NaT] * 90),
        parameters={
            "learning_rate": (1e-4 * 1000.0**place).clip(1e-4, 1e-1).tolist(),
            "model.hidden": [8 + 16 * int(k) for k in level],
        },
        distributions={
            "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
            "model.hidden": IntDistribution(8, 40),
        },
    )
    advice = analyze_data(StudyData(records)).advice
    assert {"widen", "finer"} <= {entry.kind for entry in advice}
    found = written(*advice, data=StudyData(records))
    assert found.mode["search"]["learning_rate"]["high"] == 1.0
    assert found.mode["search"]["model.hidden"] == {"choices": [8, 14, 24, 32, 40]}


REFUSED = {
    "a range upside down": Change(search={"learning_rate": {"high": 1e-6}}),
    "a value that cannot be": Change(search={"batch_size": {"choices": [0, 16]}}),
    "a parameter that is not there": Change(search={"model.depth": {"high": 3}}),
    "a fixed parameter that is not there": Change(fixed={"model.depth": 3}),
    "an unknown optimizer": Change(fixed={"learning_rate": "fast"}),
    "a field that is not there": Change(recipe={"epochs": -1}),
    "an infinite bound": Change(search={"learning_rate": {"high": float("inf")}}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_change_that_cannot_be_is_left_out_and_the_others_made(kind: str, written: Written) -> None:
    found = written(say(REFUSED[kind], "never"), say(Change(search={"batch_size": {"choices": [16, 32]}}), "do"))
    assert found.mode["search"] == {**stored().space["search"], "batch_size": {"choices": [16, 32]}}
    assert "never" not in found.text
    assert "1 piece of advice" in found.lines[0]


def test_all_fixed_would_leave_nothing_to_search(written: Written) -> None:
    data = stored({"learning_rate": SEARCH["learning_rate"]})
    found = written(Change(fixed={"learning_rate": 0.01}), data=data)
    assert list(found.mode["search"]) == ["learning_rate"]


@pytest.mark.parametrize(
    "change", [Change(fixed={"optimizer": "Adam"}), Change(search={"optimizer": {"choices": ["Adam", "AdamW"]}})]
)
def test_a_parameter_whose_condition_can_no_longer_hold_is_dropped(change: Change, written: Written) -> None:
    widened = say(Change(search={"optimizer_kwargs.momentum": {"high": 0.99}}), "widen momentum")
    found = written(widened, say(change, "drop SGD"))
    assert "optimizer_kwargs.momentum" not in found.mode["search"]
    assert "widen momentum" not in found.text, "what is told of it went with it"


def test_a_parameter_whose_condition_now_always_holds_stays(written: Written) -> None:
    found = written(Change(fixed={"optimizer": "SGD"}))
    assert found.content["recipe"]["optimizer"] == "SGD"
    assert "optimizer_kwargs.momentum" in {entry.path for entry in found.space.parameters}


def test_a_reason_of_several_lines_stays_a_comment(written: Written) -> None:
    found = written(say(Change(search={"learning_rate": {"high": 1.0}}), "do\nmodes: {}", "so\x1b[31m # \r\nit: is"))
    assert found.mode["search"]["learning_rate"]["high"] == 1.0
    assert found.above("learning_rate:") == ["do modes: {}: so [31m #   it: is"]


def test_a_grid_stays_a_grid_without_a_budget(written: Written) -> None:
    grid = {"batch_size": {"choices": [16, 32]}, "model.hidden": {"low": 8, "high": 24, "step": 8}}
    found = written(Change(search={"model.hidden": {"high": 32}}), data=stored(grid, sampler="grid"))
    assert found.mode["sampler"] == "grid" and "trials" not in found.mode
    assert len(list(found.space.combinations())) == 8


def test_what_else_the_mode_had_is_kept(written: Written) -> None:
    more = {
        "sampler": "tpe",
        "sampler_kwargs": {"n_startup_trials": 5},
        "pruner": "median",
        "pruner_kwargs": {"n_startup_trials": 3},
        "derived": {"data_seed": "model.hidden * 2"},
        "constraints": ["model.hidden <= 48"],
    }
    found = written(data=stored(**more))
    assert {key: found.mode[key] for key in more} == more


def test_a_study_by_time_gets_a_budget_of_trials(written: Written) -> None:
    assert written(data=stored(budget={"trials": None, "seconds": 60.0})).mode["trials"] == 100


TIMELINE = "STEP,learning_rate\n0,0.1\n50,0.01\n"


def test_searched_timelines_are_written_out(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_folder: Path
) -> None:
    for name in ("one.csv", "two.csv"):
        Path(name).write_text(TIMELINE)
    search = {"timeline": {"choices": ["one.csv", "two.csv"]}, "batch_size": {"choices": [16, 32]}}
    data = stored(search, place=str(own_folder / "space.yaml"))
    for name in ("one.csv", "two.csv"):
        Path(name).unlink()
    found = written(Change(fixed={"batch_size": 16}), data=data)
    assert len(found.mode["search"]["timeline"]["choices"]) == 2
    assert found.content["recipe"]["batch_size"] == 16


def test_a_task_of_ones_own_is_named_by_its_way_from_the_file(written: Written, own_folder: Path) -> None:
    (own_folder / "later").mkdir()
    search = {"learning_rate": SEARCH["learning_rate"]}
    data = stored(search, task="tiny.py", file={"metric": "val_mse", "recipe": {"epochs": 2, "loss": "mse"}})
    path = own_folder / "later" / "next.yaml"
    found = written(Change(search={"learning_rate": {"high": 0.5}}), data=data, path=path)
    assert found.content["task"] == "../tiny.py"
    assert found.space.task == "later/../tiny.py" or Path(found.space.task).resolve() == own_folder / "tiny.py"
    assert found.lines[1].startswith("  tuner full tiny.py --space ")


def test_the_command_can_be_pasted_into_a_shell(written: Written, tmp_path: Path) -> None:
    path = tmp_path / "my next.yaml"
    assert str(path) in shlex.split(written(path=path).lines[1])


# What is refused.


def test_a_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "next.yaml"
    path.write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        write_next(stored(), advised(stored()), path, Path("studies"))
    assert path.read_text() == "mine"


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        write_next(stored(), advised(stored()), tmp_path / "nowhere" / "next.yaml", Path("studies"))


@pytest.mark.parametrize("attributes", [{}, {"space": {"task": "a.py:objective", "search": {}}}, {"space": "odd"}])
def test_a_study_without_a_search_space_is_refused_and_nothing_written(
    attributes: dict[str, Any], tmp_path: Path
) -> None:
    data = data_of(attributes)
    with pytest.raises(UsageError, match="no search space"):
        write_next(data, advised(data), tmp_path / "next.yaml", Path("studies"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_bundled_task_takes_what_is_written(written: Written, tmp_path: Path, tuner: Callable[..., Any]) -> None:
    path = tmp_path / "next.yaml"
    search = {"learning_rate": SEARCH["learning_rate"], "model.channels": {"choices": [8, 16]}}
    widened = Change(search={"learning_rate": {"high": 1.0}, "model.channels": {"choices": [8, 16, 32]}})
    written(widened, Change(recipe={"epochs": 2}), data=stored(search), path=path)
    told = tuner("check", "digits", "--space", str(path))
    assert told.code == 0, told.err
    assert "mode full" in told.out


@pytest.mark.slow
def test_what_is_written_can_be_checked_and_searched_on(own_folder: Path, tuner: Callable[..., Any]) -> None:
    """From a search to its successor, all by commands that a user types."""
    assert tuner("quick", "tiny.py", "--quiet").code == 0
    told = tuner("analyze", "--next", "next.yaml")
    assert told.code == 0, told.err
    command = shlex.split(told.out.strip().splitlines()[-1])
    assert command[:2] == ["tuner", "full"]
    assert tuner("check", "tiny.py", "--space", "next.yaml").code == 0
    again = tuner("analyze", "--next", "next.yaml")
    assert again.code == 2 and "there already" in again.err
    assert tuner(*command[1:], "--trials", "8", "--quiet").code == 0
    assert tuner("analyze", "--next", "nowhere/next.yaml").code == 2
    assert not Path("nowhere").exists()
