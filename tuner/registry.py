"""Finds an entry by its declared name on a shelf, or a class or function in a user's file."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from tuner.errors import TaskError, UsageError, did_you_mean


def shelf(package: str, base: type[Any]) -> dict[str, type[Any]]:
    """All entries of a shelf by declared name: the subclasses of `base` with a `name` of their own.

    Adding an entry is adding a file to the package; nothing else lists it.
    """
    entries: dict[str, type[Any]] = {}
    root = importlib.import_module(package)
    for info in pkgutil.iter_modules(root.__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        for entry in vars(module).values():
            if isinstance(entry, type) and issubclass(entry, base) and entry.__module__ == module.__name__:
                name = entry.__dict__.get("name")
                if name:
                    entries[name] = entry
    return entries


def find(kind: str, name: str, entries: dict[str, Any], place: str = "") -> Any:
    """`entries[name]`, or a `UsageError` that names the nearest entry."""
    if name not in entries:
        raise UsageError(f"there is no {kind} '{name}'", place=place, hint=did_you_mean(name, entries))
    return entries[name]


def load_file(path: Path) -> ModuleType:
    """A user's Python file as a module; its own folder is importable from it.

    Raises `TaskError` where the file is missing, not Python, or fails while it is imported.
    """
    if not path.is_file():
        raise TaskError("there is no such file", place=str(path))
    name = f"tuner_user_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TaskError("not a Python file", place=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise TaskError(
            f"the file fails while it is imported: {type(error).__name__}: {error}", place=place_of(error, path)
        ) from error
    return module


def place_of(error: BaseException, path: Path) -> str:
    """`path:line` of the last line of the file `path` that an exception passed through, or `path`."""
    line, trace = None, error.__traceback__
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).resolve() == path.resolve():
        line = error.lineno
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}:{line}" if line else str(path)


def class_in(module: ModuleType, base: type[Any], path: Path) -> type[Any]:
    """The one subclass of `base` that the file defines.

    Raises `TaskError` where it defines none or several.
    """
    found = [
        entry
        for entry in vars(module).values()
        if isinstance(entry, type) and issubclass(entry, base) and entry.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(entry.__name__ for entry in found) or "none"
        function = callable(getattr(module, "objective", None)) and not found
        hint = f"To run its Optuna objective, give {path}:objective" if function else ""
        raise TaskError(
            f"the file must define exactly one subclass of {base.__name__}; found {names}", place=str(path), hint=hint
        )
    return found[0]


def function_in(module: ModuleType, name: str, path: Path) -> Any:
    """The callable `name` of a user's file, or a `TaskError` with the nearest name."""
    entry = getattr(module, name, None)
    if not callable(entry):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise TaskError(f"the file has no function '{name}'", place=str(path), hint=did_you_mean(name, names))
    return entry


def source_hash(path: Path) -> str:
    """SHA-256 of a source file's text and of the files beside it that it imports; line endings made equal."""
    texts = (file.read_text(encoding="utf-8").replace("\r\n", "\n") for file in _sources(path))
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _sources(path: Path) -> list[Path]:
    """A source file and what it imports from its own folder and below, by name; `base` is our own interface."""
    found, waiting = {path: None}, [path]
    while waiting:
        tree = ast.parse(waiting.pop().read_text(encoding="utf-8"))
        names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        for name in names:
            inside = name.removeprefix("tuner.tasks.") if path.parent.name == "tasks" else name
            file = path.parent.joinpath(*inside.split(".")).with_suffix(".py")
            if file.is_file() and file.stem != "base" and file not in found:
                found[file] = None
                waiting.append(file)
    return [path, *sorted(file for file in found if file != path)]


def check_arguments(
    function: Any, given: Iterable[str], where: Callable[[str], str], reserved: Mapping[str, str] | None = None
) -> None:
    """Raise `UsageError` for a keyword that `function` does not take, or a required one left out.

    `where` gives the place of a keyword. `reserved` maps keywords that are set elsewhere to where: those may
    not be given here.
    """
    reserved = reserved or {}
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    free = [name for name in parameters if name not in reserved]
    given = list(given)
    for name in given:
        if name in reserved and name in parameters:
            raise UsageError(f"'{name}' is set by {reserved[name]}", place=where(name))
        if name not in parameters:
            hint = did_you_mean(name, free)
            listed = "" if hint.startswith("Valid:") or not free else " Valid: " + ", ".join(free)
            raise UsageError(f"{function.__name__} has no option '{name}'", place=where(name), hint=hint + listed)
    for name in free:
        if parameters[name].default is inspect.Parameter.empty and name not in given:
            raise UsageError(
                f"{function.__name__} needs '{name}'", place=where(name), hint="It takes: " + ", ".join(free)
            )
