"""`tuner apply`: a trained model on real files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli import options


def apply(
    model: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="A study, or a folder that `tuner train` wrote.", show_default=False),
    ],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="File or folder to read.", show_default=False)],
    destination: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder or file to write.", show_default=False)],
    trial: options.FromTrial = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUTPUT where it is a file.")] = False,
    studies: options.StudiesFolder = Path("studies"),
    device: options.Device = "auto",
) -> None:
    """Use a trained model on files: clean audio, predict grids, read digits, rebuild pictures."""
    from tuner.applying import apply_model
    from tuner.search import quiet_optuna

    quiet_optuna()
    for line in apply_model(model, source, destination, trial, studies, device, force):
        typer.echo(line)
