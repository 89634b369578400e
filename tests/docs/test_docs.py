"""The docs say what is: every command is documented, every link leads somewhere, every example works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuner.search_space import build_space, find_target

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def test_every_command_is_documented() -> None:
    from tuner.cli.main import app

    for command in app.registered_commands:
        assert f"`tuner {command.name}" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_options_in_the_docs_exist(tuner) -> None:
    options = {option for page in PAGES for option in re.findall(r"`[^`\n]*?(--[a-z][a-z-]+)", page.read_text())}
    known = "".join(
        tuner(command, "--help").out
        for command in ("run", "train", "analyze", "check", "export", "init", "confirm", "dashboard")
    )
    for option in options - {"--check"}:
        assert option[:18] in known, option


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=lambda page: page.name)
def test_search_spaces_in_the_docs_are_valid(page: Path, own_folder: Path, tuner) -> None:
    from tuner.resolve import resolve
    from tuner.tasks import load_task

    assert tuner("init", "my_task", "--force").code == 0
    for number, text in enumerate(blocks(page, "yaml")):
        path = Path(f"example{number}.yaml")
        path.write_text(text)
        target = find_target(str(path))
        for mode in yaml.safe_load(text)["modes"]:
            resolve(build_space(target, mode), load_task(target.task))


def test_the_task_in_the_docs_runs(own_folder: Path, tuner) -> None:
    (code,) = blocks(ROOT / "docs" / "tasks.md", "python")
    Path("shown.py").write_text(code)
    assert tuner("quick", "shown.py", "--trials", "1", "--set", "epochs=1").code == 0


@pytest.mark.parametrize("page", ["README.md", "docs/search-spaces.md"])
def test_python_in_the_docs_runs(page: str, own_folder: Path) -> None:
    (code,) = blocks(ROOT / page, "python")
    code = re.sub(r"n_trials=\d+", "n_trials=1", code).replace('mode="full"', 'mode="quick"')
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(code, names)
    (trial,) = names["study"].trials
    assert trial.state.name == "COMPLETE"


def test_make_targets_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"^make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets


def test_every_shelf_and_part_of_the_house_is_in_contributing() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for entry in (ROOT / "tuner").iterdir():
        if entry.name.startswith(("_", "py.typed")):
            continue
        assert f"  {entry.name}{'/' if entry.is_dir() else ''} " in text, entry.name
