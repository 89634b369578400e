"""What to run when the command names no task."""

from __future__ import annotations

from pathlib import Path

from tuner.errors import UsageError
from tuner.search_space.file import bundled_folder, spaces_in


def which_target(studies: Path, mode: str) -> str:
    """The only search space in the folder, else the task of the study used last.

    Raises `UsageError` that lists what there is where neither says it.
    """
    here = spaces_in(Path("search_spaces")) or _spaces_here()
    if len(here) == 1:
        return str(next(iter(here.values())))
    last = _last_used(studies)
    if last:
        return last
    names = here or spaces_in(bundled_folder())
    listed = "\n".join(f"  tuner {mode} {name}" for name in names)
    raise UsageError(f"say what to run; there is:\n{listed}\n  tuner {mode} my_task.py   (your own: see `tuner init`)")


def _spaces_here() -> dict[str, Path]:
    """YAML files of this folder that have a task and modes."""
    from tuner.search_space.yaml_file import read_yaml

    found = {}
    for name, path in spaces_in(Path()).items():
        try:
            content = read_yaml(path)
        except UsageError:
            continue
        if isinstance(content, dict) and {"task", "modes"} <= content.keys():
            found[name] = path
    return found


def _last_used(folder: Path) -> str | None:
    from tuner.errors import TunerError
    from tuner.storage.studies import Studies

    studies = Studies(folder)
    name = studies.newest()
    if name is None:
        return None
    try:
        target: str | None = studies.load(name).study.user_attrs.get("target")
    except TunerError:
        return None
    return target
