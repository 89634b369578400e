"""`tuner schedule`: what changes over a run, before it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli import options


def schedule(
    task: options.TrainTarget = None,
    study: options.FromStudy = None,
    trial: options.FromTrial = None,
    mode: Annotated[
        str | None, typer.Option("--mode", "-m", help="Take the recipe of this mode. [default: the file's own recipe]")
    ] = None,
    settings: options.Settings = None,
    recipe: options.Recipe = None,
    data: options.DataPath = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Picture to write. [default: studies/TASK-schedule.png]")
    ] = None,
    studies: options.StudiesFolder = Path("studies"),
) -> None:
    """Draw every value of a recipe that changes over its steps, in the terminal and as a picture."""
    from rich.console import Console

    from tuner.report.curves import curves_png, print_curves
    from tuner.search_space.settings import parse_settings

    fixed = parse_settings(settings or [], data)
    from tuner.curves import curves_of, default_picture
    from tuner.files import write_atomically
    from tuner.search import quiet_optuna
    from tuner.single import TrainRequest, target_of

    quiet_optuna()
    target = target_of(TrainRequest(task, study, trial, studies))
    curves = curves_of(target, fixed, recipe, mode or "")
    console = Console(highlight=False)
    print_curves(curves, console)
    for warning in curves.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=not console.is_terminal)
    path = png or default_picture(studies, target.name)
    write_atomically(path, curves_png(curves))
    console.print(f"drawn in {path}", markup=False, soft_wrap=True)
