"""`tuner analyze`: what a study found, or how several compare."""

from __future__ import annotations

import atexit
import gc
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.aside import Aside
from tuner.cli import options
from tuner.cli.sizes import database_bytes

if TYPE_CHECKING:  # importing it would bring pandas, which a command's start does without
    from tuner.analysis import Confirmation, StudyData

LARGE_BYTES = 4_000_000
"""A database from this size on is worth a second process."""


def analyze(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="A study's name, FILE.db, or FILE.db:NAME; the newest if left out. Several are compared.",
            show_default=False,
            metavar="STUDY",
        ),
    ] = None,
    studies: options.StudiesFolder = Path("studies"),
    top: Annotated[int, typer.Option(min=1, help="How many of the best trials to list.")] = 5,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by",
            help="Compare the values of a searched parameter, such as optimizer, over all else; or several studies "
            "themselves: study.",
            metavar="PARAM",
            show_default=False,
        ),
    ] = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Intervals of the importances, by resampling the trials.")
    ] = False,
    gap: Annotated[
        list[float] | None,
        typer.Option(
            help="Count trials with a larger gap; may be given again. [default: 0.01, 0.05]", show_default=False
        ),
    ] = None,
    next_space: Annotated[
        Path | None,
        typer.Option("--next", help="Write the search space that follows from the advice.", metavar="FILE"),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv", help="Write the table of trials, one row a trial; - prints nothing else.", metavar="FILE"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --csv.")] = False,
    json: options.Json = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write the report as one HTML file with plots, in place of printing it."),
    ] = None,
) -> None:
    """Say which settings won, what each parameter does, and where models overfit; compare studies."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for tables this small, threads only get in each other's way
    gc.disable()  # a report keeps what it reads, so that looking for garbage only takes time
    atexit.register(gc.freeze)  # at the end, too
    _check_gaps(gap)
    if html is not None:
        _check_page(html, group_by, json)
    if names is not None and len(names) > 1:
        _refuse_for_several(next_space=next_space, csv=csv, html=html)
        _compare(names, studies, top, group_by, intervals, gap, json)
        return
    with Aside(wanted=database_bytes(names[0] if names else None, studies) > LARGE_BYTES) as aside:
        from tuner.analysis import GAP_THRESHOLDS, StudyData, analyze_data
        from tuner.cli.studies import read
        from tuner.report.as_csv import STDOUT, check_csv, trials_csv, write_csv

        if next_space is not None:
            from tuner.report.next_space import check_space
            from tuner.report.target import check_target

            check_target(next_space, "--next")
        if csv is not None:
            check_csv(csv, force)
            _refuse_two_outputs(csv == STDOUT, json=json, next_space=next_space, html=html)
        data = StudyData(read(names[0] if names else None, studies))
        if next_space is not None:
            check_space(data)
        if csv == STDOUT:
            typer.echo(trials_csv(data.frame), nl=False)
            return
        found = analyze_data(data, top, group_by, intervals, gap or GAP_THRESHOLDS, _confirmed(data), aside.ask)
    if json:
        from tuner.report.as_json import analysis_json

        _print_json(analysis_json(found))
    elif html is not None:
        from tuner.report.page.writing import write_page

        typer.echo(write_page(html, data, found))
    else:
        from rich.console import Console

        from tuner.report.terminal import print_analysis

        print_analysis(found, Console(highlight=False))
    if csv is not None:
        write_csv(data.frame, csv)
        typer.echo(f"{csv}: the table of {len(data.frame)} trials", err=json)
    if next_space is not None:
        from tuner.report.next_space import write_next

        for line in write_next(data, found, next_space, studies):
            typer.echo(line, err=json)


def _compare(
    names: list[str],
    studies: Path,
    top: int,
    group_by: str | None,
    intervals: bool,
    gap: list[float] | None,
    json: bool,
) -> None:
    """Several studies side by side."""
    from tuner.analysis import GAP_THRESHOLDS, StudyData
    from tuner.analysis.several import compare_studies
    from tuner.cli.studies import read

    every = [StudyData(read(name, studies)) for name in names]
    found = compare_studies(
        every, top, group_by, intervals, gap or GAP_THRESHOLDS, [_confirmed(data) for data in every]
    )
    if json:
        from tuner.report.as_json import several_json

        _print_json(several_json(found))
        return
    from rich.console import Console

    from tuner.report.several import print_several

    print_several(found, Console(highlight=False))


def _confirmed(data: StudyData) -> Confirmation | None:
    """What `tuner confirm` found of a study."""
    from tuner.analysis import confirmation_beside
    from tuner.storage.studies import Studies

    return confirmation_beside(Studies(data.folder), data.name) if data.folder else None


def _print_json(found: dict[str, Any]) -> None:
    from json import dumps

    typer.echo(dumps(found, indent=2, allow_nan=False))


def _refuse_for_several(**given: Path | None) -> None:
    """What is of one study alone."""
    from tuner.errors import UsageError

    for name, value in given.items():
        if value is not None:
            place = f"--{name.removesuffix('_space')}"
            raise UsageError("takes one study at a time", place=place, value=str(value))


def _check_page(path: Path, group_by: str | None, json: bool) -> None:
    """Refuse what no page can be made of, before a large study is read."""
    from tuner.errors import UsageError
    from tuner.report.page.target import check_page

    if group_by is not None or json:
        other = "--json" if json else "--group-by"
        raise UsageError(f"{other} has no page of its own", place="--html", hint=f"Leave out --html or {other}")
    check_page(path)


def _check_gaps(gap: list[float] | None) -> None:
    from tuner.errors import UsageError

    for limit in gap or ():
        if not math.isfinite(limit):
            raise UsageError("a gap is a finite number", place="--gap", value=str(limit))


def _refuse_two_outputs(stdout: bool, **others: object) -> None:
    """Standard output holds the table of trials or something else."""
    from tuner.errors import UsageError

    given = [f"--{name.removesuffix('_space')}" for name, value in others.items() if value]
    if stdout and given:
        other = given[0]
        raise UsageError(f"prints nothing beside the table, so it cannot go with {other}", place="--csv", value="-")
