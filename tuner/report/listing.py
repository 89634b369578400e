"""The studies of a folder, a row each."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tuner.errors import TunerError
from tuner.rounds.score import counts
from tuner.storage.file_lock import is_owned
from tuner.storage.studies import Studies


def study_rows(folder: Path) -> list[dict[str, Any]]:
    """Name, task, mode, state, trials, best value and last change of every study, newest first."""
    studies = Studies(folder)
    rows = [_row(studies, name) for name in studies.names()]
    return sorted(rows, key=lambda row: str(row["changed"]), reverse=True)


def _row(studies: Studies, name: str) -> dict[str, Any]:
    path = studies.database(name)
    row: dict[str, Any] = {"study": name, "task": None, "mode": None, "state": "unreadable", "counted": 0}
    row |= {"trials": None, "metric": None, "best_value": None, "best_trial": None}
    row["changed"] = datetime.fromtimestamp(path.stat().st_mtime).isoformat(sep=" ", timespec="minutes")
    try:
        study = studies.load(name).study
        trials = study.get_trials(deepcopy=False)
    except TunerError as error:
        return row | {"problem": str(error)}
    space, budget = study.user_attrs.get("space", {}), study.user_attrs.get("budget", {})
    complete = [trial for trial in trials if trial.state.name == "COMPLETE" and trial.value is not None]
    pick = max if study.direction.name == "MAXIMIZE" else min
    best = pick(complete, key=lambda trial: float(trial.value or 0.0)) if complete else None
    owned = is_owned(studies.lock(name))
    finished = bool(study.user_attrs.get("ended"))
    return row | {
        "task": space.get("task"),
        "mode": space.get("mode"),
        "state": "running" if owned else "finished" if finished else "stopped",
        "counted": sum(map(counts, trials)),
        "trials": budget.get("trials"),
        "metric": space.get("metric"),
        "best_value": best.value if best else None,
        "best_trial": best.number if best else None,
    }


def print_studies(rows: list[dict[str, Any]], console: Console | None = None) -> None:
    """Print the rows as a table that fits the terminal."""
    console = console or Console(highlight=False)
    table = Table(box=box.SIMPLE, pad_edge=False)
    wide = console.width >= 80
    for title in ("study", "state", "trials", "best") + (("metric", "changed") if wide else ()):
        table.add_column(title, overflow="fold", justify="right" if title in ("trials", "best") else "left")
    for row in rows:
        trials = f"{row['counted']}/{row['trials']}" if row["trials"] else str(row["counted"])
        best = "-" if row["best_value"] is None else f"{row['best_value']:.4g}"
        cells = [row["study"], row["state"], trials, best]
        table.add_row(*cells, *((row["metric"] or "-", row["changed"]) if wide else ()))
    console.print(table)
    for row in rows:
        if "problem" in row:
            console.print(f"{row['study']}: {row['problem']}", style="red", markup=False)
