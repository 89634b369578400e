"""`tuner analyze`: what a study found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli import options


def analyze(
    study: options.StudyName = None,
    studies: options.StudiesFolder = Path("studies"),
    top: Annotated[int, typer.Option(min=1, help="How many of the best trials to list.")] = 5,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by",
            help="Compare the values of a searched parameter, such as optimizer, over all else.",
            metavar="PARAM",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Say which settings won, what each parameter does, and where models overfit."""
    from rich.console import Console

    from tuner.analysis import analyze as analyze_study
    from tuner.cli.studies import opened

    source = opened(study, studies)
    found = analyze_study(source.study, top, epochs=source.epochs, files=source.files, by=group_by)
    if json:
        from json import dumps

        from tuner.report.as_json import analysis_json

        typer.echo(dumps(analysis_json(found), indent=2, allow_nan=False))
        return
    from tuner.report.terminal import print_analysis

    print_analysis(found, Console(highlight=False))
