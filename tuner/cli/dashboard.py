"""`tuner dashboard`: a study in optuna-dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli import options


def dashboard(
    study: options.StudyName = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Whoever reaches it can read the study, and change it.")
    ] = "127.0.0.1",
    studies: options.StudiesFolder = Path("studies"),
) -> None:
    """Show a study in optuna-dashboard, in the browser; a search that runs is not held up. Ctrl-C ends it."""
    from tuner.cli.serving import server

    try:
        with server(study, studies, host, port) as listening:
            typer.echo(f"{listening.study}: {listening.address}\nCtrl-C ends it.")
            listening.server.serve_forever()
    except KeyboardInterrupt:
        return
