"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Task = Annotated[
    str | None,
    typer.Argument(
        help="A bundled task, your my_task.py, script.py:objective, or a search space's .yaml.", show_default=False
    ),
]
StudiesFolder = Annotated[Path, typer.Option("--studies", help="Folder of the studies.", metavar="DIR")]
StudyName = Annotated[str | None, typer.Argument(help="A study's name; the newest if left out.", show_default=False)]
SpaceFile = Annotated[
    Path | None, typer.Option("--space", help="Search space to use instead of the task's own.", show_default=False)
]
TrainTarget = Annotated[
    str | None,
    typer.Argument(help="A task, my_task.py, or a recipe's .yaml (from `tuner export`).", show_default=False),
]
FromStudy = Annotated[str | None, typer.Option("--from", help="Take the recipe from this study.", metavar="STUDY")]
FromTrial = Annotated[int | None, typer.Option("--trial", min=0, help="Trial of the study. [default: the best]")]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe", help="Ready recipe to lay over the task's, such as sgd-onecycle, or a file.", metavar="NAME"
    ),
]
DataPath = Annotated[str | None, typer.Option("--data", help="Folder or file to take the data from.", metavar="PATH")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Fix a recipe value, such as epochs=5 or model.channels=16.", metavar="KEY=VALUE"),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
