"""The study that a command is about."""

from __future__ import annotations

from pathlib import Path

from tuner.storage.records import Records
from tuner.storage.studies import OpenStudy, Studies


def opened(name: str | None, folder: Path) -> OpenStudy:
    """The study `name`, or the newest of the folder; `StudyNotFoundError` where there is none."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    studies = Studies(folder)
    return studies.load(studies.chosen(name))


def read(name: str | None, folder: Path) -> Records:
    """The same, as columns: nothing is written, and a search that runs is not held up."""
    studies = Studies(folder)
    return studies.read(studies.chosen(name))
