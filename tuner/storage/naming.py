"""What a person calls a study: its name, its database FILE.db, or one of those in it, FILE.db:NAME.

It is told without Optuna, which takes a while to import.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Named(NamedTuple):
    """The database that is meant, and the study in it that is asked for; `by_file` where the database was named."""

    path: Path
    asked: str | None
    by_file: bool

    @property
    def name(self) -> str:
        """The study's name, as far as it is told."""
        return self.asked or self.path.stem


def named(given: str, folder: Path) -> Named:
    """What `given` means in a folder of studies; a file may have `sqlite:///` before it, as in a URL of Optuna's."""
    given = given.removeprefix("sqlite:///")
    file, colon, asked = given.rpartition(".db:")
    if colon:
        return Named(Path(f"{file}.db"), asked, True)
    by_file = given.endswith(".db")
    return Named(Path(given) if by_file else folder / f"{given}.db", None, by_file)
