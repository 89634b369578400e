"""`tuner confirm`: is the winner real?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli import options


def confirm(
    study: options.StudyName = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the best settings to train again.", metavar="K")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds for each of them.", metavar="N")] = 5,
    studies: options.StudiesFolder = Path("studies"),
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on although the task or the study's settings changed.")
    ] = False,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Train a study's best settings again over fresh seeds, and score them on a test split that no search has seen.

    Says by how much the search was too optimistic, and which setting is best. Run the same command again to go on after
    anything; a larger --top or --seeds trains only what is missing. The runs are the study STUDY-confirm.
    """
    from tuner.cli.progress import reporter
    from tuner.events import Event, StudyEnded

    with reporter(quiet=quiet, as_json=json, studies=studies) as emit:
        from tuner.confirming import ConfirmRequest, confirm
        from tuner.search import quiet_optuna

        def show(event: Event) -> None:
            if json or not isinstance(event, StudyEnded):  # its best single run is what nobody should go by here
                emit(event)

        quiet_optuna()
        found = confirm(ConfirmRequest(study, top, seeds, studies, device, accept_changes), show)
    if json:
        from json import dumps

        from tuner.report.as_json import confirmation_json

        typer.echo(dumps({"event": "Confirmed", **confirmation_json(found)}, allow_nan=False))
        return
    from rich.console import Console

    from tuner.report.terminal import print_confirmation

    print_confirmation(found, Console(highlight=False))
