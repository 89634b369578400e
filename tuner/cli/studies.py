"""Which study a command reads."""

from __future__ import annotations

from pathlib import Path

from tuner.errors import StudyNotFoundError
from tuner.storage.reading import Records
from tuner.storage.studies import OpenStudy, Studies


def opened(name: str | None, folder: Path) -> OpenStudy:
    """The study `name`, or the newest of the folder; `StudyNotFoundError` where there is none."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return Studies(folder).load(name or newest(folder))


def read(name: str | None, folder: Path) -> Records:
    """The same, as columns: nothing is written, and a search that runs is not held up."""
    return Studies(folder).read(name or newest(folder))


def newest(folder: Path) -> str:
    """The study of a folder that was written last."""
    found = Studies(folder).newest()
    if found is None:
        raise StudyNotFoundError(f"there are no studies in '{folder}'", hint="Make one: tuner quick digits")
    return found
