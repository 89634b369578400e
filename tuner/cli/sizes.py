"""How large a study is, before anything that reads it is imported."""

from __future__ import annotations

from pathlib import Path

from tuner.storage.naming import named


def database_bytes(name: str | None, folder: Path) -> int:
    """The size of a study's database, or of the largest in the folder where no name is given; 0 where there is none."""
    if name is None:
        return max((path.stat().st_size for path in folder.glob("*.db")), default=0)
    path = named(name, folder).path
    return path.stat().st_size if path.is_file() else 0
