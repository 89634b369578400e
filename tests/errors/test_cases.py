"""Every malformed input of `cases.yaml` gets one message that a person can act on, and leaves nothing behind (C7)."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tuner.cli.main import main
from tuner.errors import UsageError
from tuner.search_space import build_space, find_target
from tuner.search_space.file import bundled_folder
from tuner.search_space.yaml_file import read_yaml

HERE = Path(__file__).parent
CASES: list[dict[str, Any]] = yaml.safe_load((HERE / "cases.yaml").read_text(encoding="utf-8"))
KEYS = {"name", "args", "exit", "study", "process", "place", "rule", "value", "suggestion", "absent"}
FRAGMENTS = ("place", "rule", "value", "suggestion")
PROGRAM = [sys.executable, "-c", "from tuner.cli.main import main; main()"]


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `studies` with the study `have`: digits, one trial of one epoch; made by a process that has ended."""
    folder = tmp_path_factory.mktemp("finished") / "studies"
    command = ["quick", "digits", "--study", "have", "--trials", "1", "--set", "epochs=1", "--studies", str(folder)]
    subprocess.run([*PROGRAM, *command], capture_output=True, check=True)
    return folder


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a copy of `spaces/`, for all cases: each must leave it as it is."""
    folder = tmp_path_factory.mktemp("cases")
    copy_fixtures(folder)
    return folder


def copy_fixtures(folder: Path) -> None:
    """`spaces/` alone in `folder`, with `x.py.txt` as `x.py`."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(HERE / "spaces", folder / "spaces")
    for path in (folder / "spaces").glob("*.py.txt"):
        path.rename(path.with_suffix(""))


@pytest.fixture
def case(request: pytest.FixtureRequest, fixtures: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A case, in its working folder; afterwards the folder and Python's modules are as they were."""
    case: dict[str, Any] = request.param
    if case.get("study"):
        shutil.copytree(request.getfixturevalue("finished_study"), fixtures / "studies")
    monkeypatch.chdir(fixtures)
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("TUNER_DEBUG", raising=False)
    monkeypatch.setattr(sys, "argv", ["tuner", *case["args"]])
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules, before = set(sys.modules), listing(fixtures)
    yield case
    for name in set(sys.modules) - modules:
        if name.startswith("tuner_user_"):
            del sys.modules[name]
    if case.get("study") or listing(fixtures) != before:
        copy_fixtures(fixtures)


def listing(folder: Path, running: bool = False) -> dict[str, tuple[int, int]]:
    """Every file below `folder` with its size and time of change.

    Python's own caches are left out, and when a lock was last taken; also, while the process is `running`,
    the files that SQLite deletes when it closes a database.
    """
    found = {}
    for above, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found.update({os.path.join(above, name): (0, 0) for name in folders})
        for name in files:
            about = os.stat(os.path.join(above, name))
            if not (running and name.endswith((".db-wal", ".db-shm"))):
                counts = not name.endswith(".lock")
                found[os.path.join(above, name)] = (about.st_size, about.st_mtime_ns) if counts else (0, 0)
    return found


def message_of(text: str) -> str:
    """The text without colours, frames and line breaks."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return " ".join(re.sub("[─-╿]", " ", text).split())


def check_message(case: dict[str, Any], code: int | str | None, out: str, err: str) -> None:
    """One message, with every fragment of the case, and its exit code."""
    message = message_of(err)
    assert "Traceback" not in err + out
    assert "unexpected error" not in message, message
    assert code == case["exit"], f"exit code {code}: {message or out}"
    for kind in FRAGMENTS:
        wanted = case.get(kind)
        assert wanted is None or str(wanted) in message, f"{kind} {wanted!r} is not in: {message}"
    if "absent" in case:
        assert case["absent"] not in message
    assert message.count(case["rule"]) == 1, f"said more than once: {message}"
    assert len(re.findall(r"(?:^|\s)[Ee]rror:? ", re.sub(r"\w+Error: ", "", message))) == 1, message
    assert out == "", f"something stands on stdout: {out}"


def named(cases: list[dict[str, Any]]) -> pytest.MarkDecorator:
    """A test of each of these cases."""
    return pytest.mark.parametrize("case", cases, ids=lambda case: case["name"], indirect=True)


@named(CASES)
def test_case(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Through the real command line, in this process."""
    before = listing(Path(), running=True)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    check_message(case, ended.value.code, shown.out, shown.err)
    assert listing(Path(), running=True) == before, "something was left behind"


@named([case for case in CASES if case.get("process")])
def test_case_in_a_process_of_its_own(case: dict[str, Any]) -> None:
    """The same from outside."""
    before = listing(Path())
    ran = subprocess.run([*PROGRAM, *case["args"]], capture_output=True, text=True)
    check_message(case, ran.returncode, ran.stdout, ran.stderr)
    assert listing(Path()) == before, "something was left behind"


def test_the_table_is_whole() -> None:
    """Enough cases, each named once, with known keys, and no fixture that none of them uses."""
    names = [case["name"] for case in CASES]
    assert len(names) >= 40
    assert len(names) == len(set(names))
    assert sum(1 for case in CASES if case.get("process")) >= 3
    for case in CASES:
        assert {"name", "args", "exit", "rule"} <= case.keys() <= KEYS, case["name"]
        assert case["exit"] in (1, 2), case["name"]


def test_every_fixture_is_used() -> None:
    """Named in a command line, in a search space's `task`, or suggested instead of a name that is wrong."""
    used = " ".join(" ".join([*case["args"], case.get("suggestion", "")]) for case in CASES)
    orphans = [
        path.name
        for path in (HERE / "spaces").iterdir()
        if path.name.removesuffix(".txt") not in re.split("[ '/:]", used)
    ]
    assert orphans == []


# ---- any small mistake in a search space that works

DIGITS = read_yaml(bundled_folder() / "digits.yaml")
DIGITS["recipe"] |= {"early_stopping": {"monitor": "val_loss", "patience": 3}, "loss_weights": {"cross_entropy": 1}}
DIGITS["modes"]["full"] |= {"derived": {"model.tau": "model.timesteps / 2"}, "constraints": ["model.channels <= 64"]}
del DIGITS["modes"]["full"]["search"]["model.tau"]
WRONG = [None, True, 0, -1, 3, 2.5, float("nan"), float("inf"), 10**400, "", "x", "1", [], [1], ["a", 1.0, True], {}]
WRONG += [{"low": 1}, {"low": 2, "high": 1}, {"choices": []}, {"choices": [[1], {"a": 1}]}, [[1, 2], {"b": None}]]


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every key and list entry, however deep."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, entry in entries for found in ((*path, key), *paths_in(entry, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """digits.yaml (and the keys it does not use), one to three keys or values dropped, renamed or retyped."""
    space = copy.deepcopy(DIGITS)
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from(paths_in(space) or [("task",)]))
        owner = space
        for part in above:
            owner = owner[part]
        change = draw(st.sampled_from(["drop", "rename", "retype"]))
        if change == "retype" or isinstance(owner, list):
            owner[key] = copy.deepcopy(draw(st.sampled_from([*WRONG, owner[key], str(owner[key])])))
        else:
            value = owner.pop(key)
            if change == "rename":
                text = str(key)
                at = draw(st.integers(0, len(text)))
                other = draw(st.sampled_from([text[:at] + text[at + 1 :], text[:at] + "x" + text[at:], text + ".", at]))
                owner[other] = value
    return space


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(space=mutated(), mode=st.sampled_from(["quick", "full"]))
def test_a_mistake_is_a_usage_error_or_none(space: Any, mode: str) -> None:
    """A mutated search space either is one, or `UsageError` names its file in one short message."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.yaml"
        path.write_text(yaml.safe_dump(space, sort_keys=False), encoding="utf-8")
        message = complaint(path, mode)
        assert message == "" or (message.startswith(str(path)) and len(message) < 1000)


def complaint(path: Path, mode: str) -> str:
    """What `UsageError` says of a search space, or "" where nothing is wrong with it."""
    try:
        build_space(find_target(str(path)), mode)
    except UsageError as error:
        return str(error)
    return ""
