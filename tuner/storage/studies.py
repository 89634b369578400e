"""Studies in a folder: making, opening and comparing them, and what they know of themselves (contract C11)."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from tuner.errors import StudyChangedError, StudyNotFoundError, UsageError, did_you_mean, shorten
from tuner.storage.connect import connect, explained, refuse_foreign
from tuner.storage.naming import named
from tuner.storage.reading import read_by_optuna, read_only, read_study, study_names
from tuner.storage.records import Records

if TYPE_CHECKING:  # a report only reads, and is written before these are imported
    from tuner.search_space.space import SearchSpace
    from tuner.storage.batched import BatchedStorage
    from tuner.storage.epochs import EpochRows

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_READY = "ready"
MOST_NAMED = 5
"""Of a database's studies so many are named where one must be chosen."""

WARM_START = "warm_start"
"""Attribute of a study that took trials over from another one, and of each of those: `study`, `trials` or `trial`."""


@dataclass(frozen=True)
class OpenStudy:
    """A study in use: Optuna's, its storage, our epoch rows, and the folder of its files."""

    study: optuna.Study
    storage: BatchedStorage
    epochs: EpochRows
    files: Path
    existed: bool


class Studies:
    """A folder of studies: `<study>.db` and `<study>/` with weights and series."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def database(self, name: str, place: str = "--study") -> Path:
        """The study's SQLite file; `UsageError` for a name that makes no file."""
        if not _NAME.fullmatch(name) or name.endswith(".db"):
            raise UsageError("a study's name is made of letters, digits, '.', '_' and '-'", place=place, value=name)
        return self.folder / f"{name}.db"

    def lock(self, name: str) -> Path:
        """The file that whoever trains the study holds locked, beside its database whatever links lead there."""
        return self.database(name).resolve().with_name(f".{name}.lock")

    def files(self, name: str) -> Path:
        """The folder of the study's weights and series."""
        return self.folder / name

    def names(self) -> list[str]:
        """The studies by name."""
        return sorted(entry.stem for entry in self.folder.glob("*.db"))

    def newest(self) -> str | None:
        """The study that was written last; one that still runs, or was killed, writes beside its database."""
        entries = sorted(self.folder.glob("*.db"), key=_last_write)
        return entries[-1].stem if entries else None

    def chosen(self, name: str | None) -> str:
        """The study `name`, or where that is None the newest; `StudyNotFoundError` where there is none."""
        found = name or self.newest()
        if found is None:
            raise StudyNotFoundError(f"there are no studies in '{self.folder}'", hint="Make one: tuner quick digits")
        return found

    def load(self, name: str) -> OpenStudy:
        """The study `name` (or FILE.db, or FILE.db:NAME), to read; `StudyNotFoundError` with the nearest name."""
        from tuner.storage.batched import BatchedStorage
        from tuner.storage.epochs import EpochRows

        path, asked = self._found(name)
        with explained(path):
            storage = BatchedStorage(connect(path))
            epochs = EpochRows(storage)
            wanted = _wanted(path, asked, optuna.study.get_all_study_names(storage))
            study = optuna.load_study(study_name=wanted, storage=storage)
            return OpenStudy(study, storage, epochs, path.parent / wanted, existed=True)

    def read(self, name: str) -> Records:
        """The study `name` (or FILE.db, or FILE.db:NAME) as columns, without writing anything; raises as `load`."""
        path, asked = self._found(name)
        with explained(path):
            refuse_foreign(path, to_read=True)
            engine = read_only(path)
            wanted = _wanted(path, asked, study_names(engine))
            return read_study(engine, wanted, path.parent / wanted)

    def view(self, name: str) -> optuna.Study:
        """The study `name` as Optuna sees it, without writing anything; raises as `load`."""
        path, asked = self._found(name)
        with explained(path):
            refuse_foreign(path, to_read=True)
            engine = read_only(path)
            return optuna.load_study(study_name=_wanted(path, asked, study_names(engine)), storage=read_by_optuna(path))

    def _found(self, name: str) -> tuple[Path, str | None]:
        """The database that NAME, FILE.db or FILE.db:NAME means, and the study in it that is asked for by name."""
        path, asked, by_file = named(name, self.folder)
        if not path.is_file():
            if by_file:
                raise StudyNotFoundError(f"there is no file '{path}'", hint=did_you_mean(path.stem, self.names()))
            if Path(name).is_file():
                raise UsageError("a study's database is a file whose name ends in .db", value=name, hint="Rename it")
            self.database(name, place="")
            raise StudyNotFoundError(
                f"there is no study '{name}' in {self.folder}", hint=did_you_mean(path.stem, self.names())
            )
        return path, asked

    def storage(self, name: str) -> BatchedStorage:
        """The storage of the study `name`, its database made if it is not there."""
        from tuner.storage.batched import BatchedStorage

        path = self.database(name)
        with explained(path):
            return BatchedStorage(connect(path))

    def open(
        self, name: str, space: SearchSpace, task_hash: str, threads: int, storage: BatchedStorage | None = None
    ) -> OpenStudy:
        """The study `name` in `storage`, made for `space` if it is not there (or its making was cut short)."""
        from tuner.storage.epochs import EpochRows

        storage = storage or self.storage(name)
        epochs = EpochRows(storage)
        for entry in storage.get_all_studies():
            if entry.study_name == name and entry.user_attrs.get(_READY):
                study = optuna.load_study(study_name=name, storage=storage)
                return OpenStudy(study, storage, epochs, self.files(name), existed=True)
            if entry.study_name == name:
                _refuse_foreign_study(entry, bool(storage.get_all_trials(entry._study_id, deepcopy=False)))
                self._drop_copies(name, entry.user_attrs.get(WARM_START, {}).get("trials", 0))
                optuna.delete_study(study_name=name, storage=storage)
        study = optuna.create_study(
            study_name=name, storage=storage, direction="maximize" if space.maximize else "minimize"
        )
        with storage.transaction():
            for key, value in knowledge(space, task_hash, threads).items():
                study.set_user_attr(key, value)
        return OpenStudy(study, storage, epochs, self.files(name), existed=False)

    def _drop_copies(self, name: str, trials: int) -> None:
        """Delete what a making that was cut short had copied for the first `trials` trials."""
        for number in range(trials):
            for path in self.files(name).glob(f"**/trial-{number:04d}.*"):
                path.unlink(missing_ok=True)


def _refuse_foreign_study(entry: Any, has_trials: bool) -> None:
    """A study of that name with anything in it but what our making writes is somebody's own."""
    if "space" not in entry.user_attrs and (entry.user_attrs or has_trials):
        raise UsageError(
            f"the study '{entry.study_name}' was made by another program",
            place="--study",
            hint="Give --study NEW for one of its own.",
        )


def _last_write(database: Path) -> float:
    """When it was last written to; reading alone makes a journal too, but an empty one."""
    journal = database.with_name(f"{database.name}-wal")
    written = [database, journal] if journal.exists() and journal.stat().st_size else [database]
    return max(entry.stat().st_mtime for entry in written)


def mark_ready(study: optuna.Study) -> None:
    """Say that the study's making is complete; one without the mark is made anew."""
    study.set_user_attr(_READY, True)


def _wanted(path: Path, asked: str | None, names: Sequence[str]) -> str:
    """The study of a database that is asked for; else the one of the file's name, or the only one."""
    if not names:
        raise StudyNotFoundError("the database holds no study", place=str(path))
    if asked is not None and asked not in names:
        raise StudyNotFoundError(f"there is no study '{asked}'", place=str(path), hint=did_you_mean(asked, names))
    if asked is None and path.stem not in names and len(names) > 1:
        hint = f"Give one of them: {', '.join(f'{path}:{name}' for name in names[:MOST_NAMED])}"
        raise UsageError(f"the database holds {len(names)} studies", place=str(path), hint=hint)
    return asked or (path.stem if path.stem in names else names[0])


def knowledge(space: SearchSpace, task_hash: str, threads: int) -> dict[str, Any]:
    """What a study stores of how it was made."""
    return {
        "space": space.describe(),
        "budget": asdict(space.budget),
        "expect": space.expect,
        "task_hash": task_hash,
        "place": space.place,
        "versions": versions(threads),
    }


def versions(threads: int) -> dict[str, str]:
    """The versions, the machine and torch's number of threads, on which the last bits of results may depend."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "threads": str(threads)}
    for package in ("tuner", "torch", "optuna", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def differences(study: optuna.Study, space: SearchSpace, task_hash: str) -> list[str]:
    """What decides the trials and is not as the study stored it, a line each: `path: stored -> now`."""
    stored, now = study.user_attrs.get("space", {}), json.loads(json.dumps(space.describe()))
    lines = [f"{path}: {was} -> {shorten_plain(new)}" for path, was, new in _compare(stored, now)]
    if study.user_attrs.get("task_hash") != task_hash:
        lines.append("the task's source file has changed")
    return lines


def _compare(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    left, right = _deep(stored), _deep(now)
    return [
        (path, shorten_plain(left.get(path, "nothing")), right.get(path, "nothing"))
        for path in sorted({*left, *right})
        if left.get(path, "nothing") != right.get(path, "nothing")
    ]


def _deep(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every plain value by its path through all mappings, and lists of mappings."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        rows = isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value)
        if isinstance(value, Mapping) or rows:
            inner = {str(place): entry for place, entry in enumerate(value)} if rows else value
            flat.update(_deep(inner, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def shorten_plain(value: Any) -> str:
    """A value for a difference's line."""
    return value if isinstance(value, str) and value else shorten(value, 60)


NEW_OR_ACCEPT = "Give --study NEW for a study of its own, or --accept-changes to go on with the new settings"


def check_unchanged(
    study: optuna.Study,
    space: SearchSpace,
    task_hash: str,
    threads: int,
    accept: bool,
    remedy: str = NEW_OR_ACCEPT,
) -> list[str]:
    """The differences that `accept` takes over into the study; `StudyChangedError`, with a `remedy`, where it is False.

    A budget may always grow. Other versions or another machine are not a difference; see `version_changes`.
    """
    found = differences(study, space, task_hash)
    if found and accept:
        _refuse_other_kinds(study, space)
    if found and not accept:
        listed = "\n  ".join(found)
        raise StudyChangedError(
            f"the study was made with other settings, so nothing was run:\n  {listed}\n{remedy}",
            place=study.study_name,
        )
    if found:
        for key, value in knowledge(space, task_hash, threads).items():
            study.set_user_attr(key, value)
    for key, now in (("budget", asdict(space.budget)), ("expect", space.expect)):
        if study.user_attrs.get(key) != now:
            study.set_user_attr(key, now)
    return found


FIXED = ("metric", "direction", "value")
"""What a study's values mean; one study cannot hold values of two meanings."""


def _refuse_other_kinds(study: optuna.Study, space: SearchSpace) -> None:
    """What a study keeps for its whole life: the meaning of its values, and each parameter's kind and choices."""
    stored = study.user_attrs.get("space", {})
    for key in FIXED:
        if stored.get(key) != getattr(space, key):
            _refuse(study, f"its {key} was {stored.get(key)} and is now {getattr(space, key)}")
    for parameter in space.parameters:
        was, now = stored.get("search", {}).get(parameter.path), json.loads(json.dumps(parameter.describe()))
        if was is not None and any(was.get(key) != now.get(key) for key in ("type", "choices", "log")):
            _refuse(study, f"{parameter.path} was searched as {_kind(was)} and is now {_kind(now)}")


def _refuse(study: optuna.Study, change: str) -> None:
    raise StudyChangedError(
        f"{change}, which one study cannot hold, so nothing was run",
        place=study.study_name,
        hint="Give --study NEW for a study of its own.",
    )


def _kind(description: Mapping[str, Any]) -> str:
    if "choices" in description:
        return f"choices {shorten(description['choices'], 60)}"
    return f"a {'log ' if description.get('log') else ''}range of {description['type']}s"


def version_changes(study: optuna.Study, threads: int) -> list[str]:
    """Versions and machine that are not those the study was made with, a line each."""
    stored = study.user_attrs.get("versions", {})
    return [
        f"{name} {stored[name]} -> {now}" for name, now in versions(threads).items() if stored.get(name, now) != now
    ]
