"""SHELF: one task a file. A new file with a `Task` that declares its `name` is a new task."""

from __future__ import annotations

import inspect
from pathlib import Path

from tuner.errors import TaskError
from tuner.registry import class_in, find, load_file, place_of, shelf
from tuner.tasks.base import Batch, Data, Mean, Samples, Task, tensors_in

__all__ = ["Batch", "Data", "Mean", "Samples", "Task", "bundled", "load_task", "task_source", "tensors_in"]


def bundled() -> dict[str, type[Task]]:
    """The bundled tasks by name."""
    return shelf("tuner.tasks", Task)


def load_task(reference: str) -> Task:
    """The task that `reference` names: a bundled one, or the one class in a user's `.py` file.

    Raises `UsageError` with the nearest name, `TaskError` for a file that cannot be used.
    """
    if not reference.endswith(".py"):
        entry: type[Task] = find("task", reference, bundled())
        return entry()
    path = Path(reference)
    found: type[Task] = class_in(load_file(path), Task, path)
    try:
        return found()
    except Exception as error:
        raise TaskError(f"{found.__name__}() fails: {error}", place=place_of(error, path)) from error


def task_source(task: Task) -> Path:
    """The file that defines the task."""
    try:
        return Path(inspect.getfile(type(task)))
    except (TypeError, OSError):  # its module is not registered, as in a notebook
        return Path(type(task).losses.__code__.co_filename)
