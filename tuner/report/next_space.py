"""The search space that follows from advice, as a file: what is searched next, and in comments why."""

from __future__ import annotations

import copy
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import SearchSpaceError, UsageError
from tuner.files import write_atomically
from tuner.recipe import Recipe, set_path
from tuner.report.target import check_target
from tuner.report.words import plural
from tuner.search_space.build import build_space
from tuner.search_space.file import SpaceFile, Target
from tuner.search_space.parameter import is_number
from tuner.search_space.yaml_file import dump_yaml, one_line

if TYPE_CHECKING:  # importing it would bring pandas, which only `tuner analyze` needs
    from tuner.analysis import Advice, Analysis, StudyData

MODE = "full"
"""The mode that is written, whichever was studied: `tuner full TASK --space FILE` takes it up."""

TRIALS = 100
"""The budget where the study had none in trials."""


Search = Mapping[str, Mapping[str, Any]]
"""Descriptions of what is searched, by path."""


@dataclass
class Draft:
    """A search space in the making: `notes` are the advice that was followed, by the path it is about."""

    recipe: dict[str, Any]
    search: dict[str, dict[str, Any]]
    mode: dict[str, Any]
    notes: dict[str, list[str]] = field(default_factory=dict)


def write_next(data: StudyData, analysis: Analysis, path: Path, studies: Path) -> list[str]:
    """Write the space to `path`; gives the lines to print: what was written, and the command that takes it up.

    Raises `UsageError` as `check_space` and `check_target` do.
    """
    check_space(data)
    check_target(path, "--next")
    task = _task(str(data.space["task"]), path)
    draft, followed = _followed(data, analysis.advice, path)
    write_atomically(path, _text(data, draft, task, followed).encode())
    command = ["tuner", MODE, str(data.space["task"]), "--space", str(path), "--study", f"{analysis.name}-next"]
    command += ["--warm-start", analysis.name, *([] if studies == Path("studies") else ["--studies", str(studies)])]
    changes = f"changed by {plural(len(followed), 'piece')} of advice" if followed else "which no advice changes"
    return [
        f"{path}: the search space, {changes}; go on with",
        f"  {shlex.join(command)}",
    ]


def check_space(data: StudyData) -> None:
    """Raise `UsageError` for a study that has no search space."""
    if not data.space.get("search"):
        raise UsageError("the study has no search space that advice could change", place="--next", value=data.name)


def _task(task: str, path: Path) -> str:
    """The task as the new file names it: one's own by its way from there."""
    return os.path.relpath(Path(task).resolve(), path.resolve().parent) if task.endswith(".py") else task


def _followed(data: StudyData, advice: Sequence[Advice], path: Path) -> tuple[Draft, list[Advice]]:
    """The space with every change made that leaves it valid, and the advice it follows."""
    draft = _as_it_was(data)
    followed = []
    for entry in advice:
        if entry.change is None:
            continue
        try:
            changed = _changed(draft, entry, data.search)
        except (SearchSpaceError, ValueError):  # what no recipe can have
            continue
        if changed is not None and _is_valid(data, changed, path):
            draft = changed
            followed.append(entry)
    return draft, followed


def _as_it_was(data: StudyData) -> Draft:
    space = data.space
    search = {path: dict(entry) for path, entry in data.search.items()}
    budget = data.records.attributes.get("budget") or {}
    mode = {key: space[key] for key in ("sampler", "sampler_kwargs", "pruner", "pruner_kwargs") if space.get(key)}
    if mode.get("sampler") != "grid":
        mode["trials"] = budget.get("trials") or TRIALS
    mode |= {key: space[key] for key in ("derived", "constraints") if space.get(key)}
    return Draft(_shortened(space.get("recipe", {})), search, mode)


def _shortened(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without what is the default anyway."""
    usual = Recipe().model_dump()
    return {key: copy.deepcopy(value) for key, value in recipe.items() if value != usual.get(key)}


def _changed(draft: Draft, entry: Advice, studied: Search) -> Draft | None:
    """The draft with a piece of advice followed; None where an earlier one settled the matter.

    Advice starts from the search as it was `studied`, the draft may have come further.
    """
    found, change = copy.deepcopy(draft), entry.change
    assert change is not None
    changes = {**change.search, **{path: {"choices": [value]} for path, value in change.fixed.items()}}
    for path, keys in changes.items():
        if path not in found.search:
            return None
        merged = _merged(found.search[path], studied[path], keys)
        if merged is None:
            return None
        found.search[path] = merged
        if len(merged.get("choices", ())) == 1:
            _set(found.recipe, path, found.search.pop(path)["choices"][0])
    for path, value in change.recipe.items():
        _set(found.recipe, path, value)
    if change.trials is not None:
        if change.trials <= found.mode.get("trials", change.trials):
            return None
        found.mode["trials"] = change.trials
    paths = [*change.search, *change.fixed, *change.recipe] or [""]
    found.notes.setdefault(paths[0], []).append(f"{entry.do}: {entry.why}")
    kept = _reachable(found)
    for path in {*found.search} - {*kept}:
        found.notes.pop(path, None)
    found.search = kept
    return found if found.search else None


def _merged(now: Mapping[str, Any], was: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any] | None:
    """A parameter's description `now` with what `keys` change of what it `was`; None where nothing would be left.

    Of an end that was moved already, the narrower holds.
    """
    merged = {**now, **keys}
    if "choices" in keys and "choices" in was:
        merged["choices"] = _rechosen(now["choices"], was["choices"], keys["choices"])
    elif "choices" in keys:
        merged["choices"] = [choice for choice in keys["choices"] if _is_within(now, choice)]
    for key, narrower in (("low", max), ("high", min)):
        if keys.get(key) is not None and now.get(key) != was.get(key):
            merged[key] = narrower(now[key], keys[key])
    if merged.get("choices") == []:
        return None
    return {key: value for key, value in merged.items() if value is not None}


def _is_within(now: Mapping[str, Any], value: Any) -> bool:
    """Whether a range holds a value; what is no number is left to others to refuse."""
    return not is_number(value) or now.get("low", -math.inf) <= value <= now.get("high", math.inf)


def _rechosen(now: Sequence[Any], was: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """The choices `now` without those that `was` had and `new` has not, and with those that only `new` has, each after
    the one that it follows there."""
    found = [choice for choice in now if choice in new or choice not in was]
    for place, choice in enumerate(new):
        if choice not in was and choice not in found:
            before = [other for other in new[:place] if other in found]
            found.insert(found.index(before[-1]) + 1 if before else 0, choice)
    return found


def _set(recipe: dict[str, Any], path: str, value: Any) -> None:
    whole = {**Recipe().model_dump(), **copy.deepcopy(recipe)}
    set_path(whole, path, value, "--next")
    section = path.partition(".")[0]
    recipe[section] = whole[section]


def _reachable(draft: Draft) -> dict[str, dict[str, Any]]:
    """The search without parameters whose condition can no longer hold."""
    kept: dict[str, dict[str, Any]] = {}
    fixed = Recipe.model_validate(draft.recipe).with_defaults().flat()
    for path, entry in draft.search.items():
        for other, allowed in (entry.get("when") or {}).items():
            values = draft.search[other].get("choices") if other in draft.search else [fixed.get(other)]
            wanted = allowed if isinstance(allowed, list) else [allowed]
            if isinstance(values, list) and not any(value in wanted for value in values):
                break
        else:
            kept[path] = entry
    return kept


def _is_valid(data: StudyData, draft: Draft, path: Path) -> bool:
    """Whether a search could be made of it."""
    try:
        file = SpaceFile.model_validate(_content(data, draft, str(data.space["task"])))
        build_space(Target(str(data.space["task"]), file, str(path)), MODE)
    except (SearchSpaceError, ValueError):
        return False
    return True


def _content(data: StudyData, draft: Draft, task: str) -> dict[str, Any]:
    """The file as plain values."""
    about = {key: data.space[key] for key in ("metric", "direction", "value") if data.space.get(key)}
    expect = data.records.attributes.get("expect")
    return {
        "task": task,
        **about,
        "recipe": draft.recipe,
        **({"expect": expect} if expect else {}),
        "modes": {MODE: {**draft.mode, "search": _written_out(data, draft.search)}},
    }


def _written_out(data: StudyData, search: Search) -> Search:
    """The search with timelines in place of their files' names: the files were read when the study was made."""
    known = data.space.get("timelines") or {}
    if "timeline" not in search:
        return search
    entry = search["timeline"]
    return {**search, "timeline": {**entry, "choices": [known.get(name, name) for name in entry.get("choices", [])]}}


def _text(data: StudyData, draft: Draft, task: str, followed: Sequence[Advice]) -> str:
    """The file as YAML, every change with its reason above it."""
    content = _content(data, draft, task)
    lines = [f"# What `tuner analyze {data.name}` advises to search next."]
    ways = [f"#   {_line(note)}" for note in draft.notes.get("", [])]
    lines += [*ways, ""] if ways else [""]
    modes = content.pop("modes")
    for key, value in content.items():
        notes = [note for path, found in draft.notes.items() if path.partition(".")[0] == key for note in found]
        if key == "recipe":
            notes = [note for path, found in draft.notes.items() for note in found if path and path not in draft.search]
        lines += [f"# {_line(note)}" for note in notes]
        plain = not isinstance(value, Mapping)
        lines.append(f"{key}: {one_line(value)}" if plain else dump_yaml({key: value}).rstrip())
    search = modes[MODE].pop("search")
    lines += ["", "modes:", f"  {MODE}:"]
    lines += [f"    {key}: {one_line(value)}" for key, value in modes[MODE].items()]
    lines.append("    search:")
    for path, entry in search.items():
        lines += [f"      # {_line(note)}" for note in draft.notes.get(path, [])]
        lines.append(f"      {path}: {one_line(entry)}")
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
