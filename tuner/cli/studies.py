"""Which study a command reads."""

from __future__ import annotations

from pathlib import Path

from tuner.errors import StudyNotFoundError
from tuner.storage.studies import OpenStudy, Studies


def opened(name: str | None, folder: Path) -> OpenStudy:
    """The study `name`, or the newest of the folder; `StudyNotFoundError` where there is none."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    studies = Studies(folder)
    wanted = name or studies.newest()
    if wanted is None:
        raise StudyNotFoundError(f"there are no studies in '{folder}'", hint="Make one: tuner quick digits")
    return studies.load(wanted)
