"""`tuner list`: the studies and their state."""

from __future__ import annotations

from pathlib import Path

import typer

from tuner.cli import options


def list_studies(studies: options.StudiesFolder = Path("studies"), json: options.Json = False) -> None:
    """List the studies: what they search, how far they are, and their best value."""
    import optuna

    from tuner.report.listing import print_studies, study_rows

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = study_rows(studies)
    if json:
        from json import dumps

        typer.echo(dumps(rows, indent=2, allow_nan=False))
    elif not rows:
        typer.echo(f"no studies in {studies}; make one: tuner quick digits")
    else:
        print_studies(rows)
