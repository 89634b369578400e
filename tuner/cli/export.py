"""`tuner export`: the best recipe as YAML, and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli import options


def export(
    study: options.StudyName = None,
    trial: Annotated[int | None, typer.Option(min=0, help="Trial to export. [default: the best]")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder. [default: STUDY-trial-N]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    studies: options.StudiesFolder = Path("studies"),
) -> None:
    """Write a trial's recipe, which `tuner train` takes, and its weights where they are kept."""
    from tuner.cli.studies import opened
    from tuner.report.export import export_trial

    found = opened(study, studies)
    for line in export_trial(found, trial, out, force):
        typer.echo(line)
