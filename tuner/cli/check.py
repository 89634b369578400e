"""`tuner check`: does it work, how large is it, how long will it take?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli import options


def check(
    task: options.Task = None,
    mode: Annotated[
        str | None, typer.Option("--mode", "-m", help="Check this mode only. [default: every mode]")
    ] = None,
    space: options.SpaceFile = None,
    settings: options.Settings = None,
    recipe: options.Recipe = None,
    data: options.DataPath = None,
    studies: options.StudiesFolder = Path("studies"),
    device: options.Device = "auto",
) -> None:
    """Build one model, train and time one step and one epoch, and estimate the whole search."""
    from rich.console import Console

    from tuner.check import check_target
    from tuner.cli.guess import which_target
    from tuner.search_space.settings import parse_settings

    fixed = parse_settings(settings or [], data)
    target = task or which_target(studies, "quick")
    console = Console(highlight=False)
    for line in check_target(target, mode, space, fixed, device, recipe):
        console.print(line, markup=False, soft_wrap=not console.is_terminal)
