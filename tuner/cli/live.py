"""`tuner live`: turn the knobs of a run while it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli import options


def live(
    task: options.TrainTarget = None,
    study: options.FromStudy = None,
    trial: options.FromTrial = None,
    settings: options.Settings = None,
    recipe: options.Recipe = None,
    data: options.DataPath = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the page; 0 takes a free one. [default: 8090, or a free one]"),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a token, which is printed.")
    ] = "127.0.0.1",
    studies: options.StudiesFolder = Path("studies"),
    device: options.Device = "auto",
) -> None:
    """Train, and turn learning rate, optimizer, loss and more on a page meanwhile. Ctrl-C ends it.

    What is turned is recorded: `tuner train TASK --timeline SESSION` trains it again, and
    `tuner full TASK --around SESSION` searches around it.
    """
    from tuner.search_space.settings import parse_settings

    fixed = parse_settings(settings or [], data)
    from tuner.live.running import LiveRequest, train_live
    from tuner.search import quiet_optuna

    quiet_optuna()
    request = LiveRequest(task, study, trial, studies, fixed, recipe, device, host, port)
    for line in train_live(request):
        typer.echo(line)
