"""The YAML file of a search space, checked key by key, and how it is found."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from tuner.errors import SearchSpaceError, UsageError, did_you_mean
from tuner.recipe import Count, Section, Seed, parse_section
from tuner.search_space.yaml_file import near_hint, read_yaml

SAMPLERS = ("grid", "random", "tpe", "gp", "cmaes", "qmc")
PRUNERS = ("none", "median", "percentile", "hyperband", "asha", "patient", "threshold")


def _fusion(value: Any) -> Any:
    if value not in ("auto", "off") and (type(value) is not int or value < 2):
        raise PydanticCustomError("fusion", "must be auto, off, or a number of 2 or more")
    return value


class Mode(Section):
    """What one mode searches and how; `trials` and `time` are totals over all runs of the study.

    `parallel` trials are in flight at once, by rule as many as suit the sampler and the model; those of one shape train
    as one batched model, unless `fuse` is `off` (a number bounds its size). One that fails is tried again up to
    `retries` times.
    """

    sampler: str = "tpe"
    sampler_kwargs: dict[str, Any] = {}
    pruner: str | None = "none"
    pruner_kwargs: dict[str, Any] = {}
    trials: Count | None = None
    time: str | Annotated[float, Field(strict=True)] | None = None
    stop_without_improvement: Count | None = None
    parallel: Count | None = None
    fuse: Annotated[str | int, BeforeValidator(_fusion)] = "auto"
    retries: Annotated[int, Field(strict=True, ge=0)] = 0
    study_seed: Seed = 0
    recipe: dict[str, Any] = {}
    search: dict[str, Any] = {}
    derived: dict[str, Any] = {}
    constraints: list[Any] = []


class Limits(Section):
    """From `low` to `high`, both included; None is no limit."""

    low: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = None
    high: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = None


class Expectation(Section):
    """What a best trial's recorded values, `gap` or `value` are where a study is good, and where it is poor.

    Good is what lies within all limits of `good`, poor what lies within any of `poor`.
    """

    good: dict[str, Limits] = {}
    poor: dict[str, Limits] = {}


class SpaceFile(Section):
    """A search space as written."""

    task: str
    metric: str = "val_loss"
    direction: Literal["minimize", "maximize"] | None = None
    value: Literal["best", "last"] = "best"
    recipe: dict[str, Any] = {}
    expect: Expectation | None = None
    modes: dict[str, Any] = {}


@dataclass(frozen=True)
class Places:
    """Where the values of one mode are written: `file`, the mode's name, and keys given on the command line."""

    file: str
    mode: str
    flags: frozenset[str] = frozenset()

    def of(self, key: str) -> str:
        """The place of a key of the mode, such as `sampler` or `search.learning_rate`."""
        if key in self.flags:
            return "--" + key.replace("_", "-")
        return f"{self.file}: modes.{self.mode}.{key}" if self.mode else f"{self.file}: {key}"


@dataclass(frozen=True)
class Target:
    """What a user named on the command line.

    `task` is a bundled task's name or a user's file; `function` names a plain Optuna objective in that file;
    `place` is the search space's file, or "" where there is none; `file` what it says.
    """

    task: str
    file: SpaceFile
    place: str
    function: str | None = None

    @property
    def name(self) -> str:
        """A short name for studies: the task's, or the file's stem; a function's name where it says something."""
        stem = Path(self.task).stem if self.task.endswith(".py") else self.task
        return stem if self.function in (None, "objective") else f"{stem}-{self.function}"

    @property
    def script(self) -> Path | None:
        """The user's file, or None for a bundled task."""
        return Path(self.task) if self.task.endswith(".py") else None


def bundled_folder() -> Path:
    """The search spaces that come with the package: inside the wheel, or beside the package in a checkout."""
    package = Path(str(importlib.resources.files("tuner")))
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def spaces_in(folder: Path) -> dict[str, Path]:
    """The search spaces of a folder by name; files that start with `_` are not listed."""
    found = {entry.stem: entry for entry in sorted(folder.glob("*.yaml")) + sorted(folder.glob("*.yml"))}
    return {name: entry for name, entry in found.items() if not name.startswith("_")}


def find_target(argument: str, space: Path | None = None) -> Target:
    """What `argument` names: a task, a search space's file, a task's file, or `script.py:objective`.

    `space` is a search space given apart. Raises `UsageError` with the nearest name for what is not there.
    """
    argument = _as_from_here(argument)
    script, colon, function = argument.rpartition(":")
    if colon and script.endswith(".py"):
        _need_file(Path(script))
        if not function:
            raise UsageError("say which function, such as objective", place=script, hint=f"Give {script}:objective")
        beside = space or _beside(Path(script))
        file = read_space(beside) if beside else SpaceFile(task=argument, metric="value", direction="minimize")
        return Target(script, file, str(beside or argument), function)
    if argument.endswith(".py"):
        _need_file(Path(argument))
        place = space or _beside(Path(argument)) or bundled_folder() / "_default.yaml"
        return Target(argument, read_space(place), str(place))
    if argument.endswith((".yaml", ".yml")) or Path(argument).is_dir():
        return _target_of(Path(argument))
    known = spaces_in(bundled_folder()) | spaces_in(Path("search_spaces"))
    if argument not in known:
        raise UsageError(
            f"there is no task '{argument}'",
            hint=_sentence(did_you_mean(argument, known)) + " A task of your own is given as a file: my_task.py",
        )
    return _target_of(space or known[argument])


def _as_from_here(argument: str) -> str:
    """A file below the current folder by its path from here, however it was spelled."""
    absolute = os.path.abspath(argument)
    here = os.getcwd() + os.sep
    is_file = ".py" in argument or argument.endswith((".yaml", ".yml"))
    return absolute.removeprefix(here) if is_file and absolute.startswith(here) else argument


def _target_of(place: Path) -> Target:
    """The target of a search space's file; its task may be a file beside it."""
    file = read_space(place)
    script, colon, function = file.task.rpartition(":")
    task, function = (script, function) if colon and script.endswith(".py") else (file.task, "")
    if task.endswith(".py"):
        task = _as_from_here(str(place.parent / task))
        _need_file(Path(task), f"{place}: task")
    elif task not in spaces_in(bundled_folder()):
        hint = did_you_mean(task, spaces_in(bundled_folder()))
        raise SearchSpaceError(f"there is no task '{task}'", place=f"{place}: task", hint=hint)
    return Target(task, file, str(place), function or None)


def _need_file(path: Path, place: str = "") -> None:
    if path.is_dir():
        raise UsageError("a folder, where a Python file is needed", place=place or str(path))
    if not path.is_file():
        raise UsageError(f"there is no file '{path}'", place=place, hint=near_hint(path))


def _beside(script: Path) -> Path | None:
    """The search space of a user's file: the YAML of the same stem beside it, or under `search_spaces/`."""
    candidates = [script.with_suffix(".yaml"), script.with_suffix(".yml")]
    candidates += [
        folder / f"{script.stem}.yaml" for folder in (Path("search_spaces"), script.parent / "search_spaces")
    ]
    return next((entry for entry in candidates if entry.is_file()), None)


def read_space(path: Path) -> SpaceFile:
    """A search space's file, its keys checked; `SearchSpaceError` names the first problem."""
    content = read_yaml(path)
    if not isinstance(content, Mapping):
        raise SearchSpaceError(
            "a search space is a mapping with the keys " + ", ".join(SpaceFile.model_fields),
            place=str(path),
            value=content,
        )
    return parse_section(SpaceFile, content, str(path))


def read_mode(file: SpaceFile, name: str, place: str) -> Mode:
    """One mode of a search space; `UsageError` with the nearest name where there is none of it."""
    if name not in file.modes:
        raise SearchSpaceError(
            f"there is no mode '{name}'", place=f"{place}: modes", hint=did_you_mean(name, file.modes)
        )
    content = file.modes[name] if file.modes[name] is not None else {}
    mode = parse_section(Mode, content, f"{place}: modes.{name}")
    return _with_known_names(mode, Places(place, name))


def override_mode(mode: Mode, changed: Mapping[str, Any], places: Places) -> Mode:
    """The mode with keys from the command line; another sampler or pruner starts at its own defaults."""
    if not changed:
        return mode
    written = {**mode.model_dump(), **changed}
    for kind in ("sampler", "pruner"):
        if changed.get(kind, getattr(mode, kind)) != getattr(mode, kind):
            written[f"{kind}_kwargs"] = {}
    return _with_known_names(parse_section(Mode, written, "--"), places)


def _with_known_names(mode: Mode, places: Places) -> Mode:
    """The mode, its sampler and pruner checked by name; `null` is the pruner `none`."""
    mode = mode.model_copy(update={"pruner": mode.pruner or "none"})
    for kind, given, valid in (("sampler", mode.sampler, SAMPLERS), ("pruner", mode.pruner, PRUNERS)):
        if given not in valid:
            raise SearchSpaceError(
                f"there is no {kind} '{given}'", place=places.of(kind), hint=did_you_mean(given, valid)
            )
    return mode


def _sentence(words: str) -> str:
    return words if words.endswith(("?", ".")) else f"{words}."
