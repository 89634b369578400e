"""`tuner init`: a task of one's own to start from."""

from __future__ import annotations

import importlib.resources
import keyword
from pathlib import Path
from typing import Annotated

import typer

from tuner.errors import UsageError


def init(
    name: Annotated[str, typer.Argument(help="The task's name: NAME.py and NAME.yaml are written.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Write a working task file and search space to start from."""
    from tuner.search_space.file import bundled_folder, spaces_in

    stem = name.removesuffix(".py")
    if not stem.isidentifier() or keyword.iskeyword(stem):
        raise UsageError("a task's name is a Python name, such as my_task", value=name)
    if stem in spaces_in(bundled_folder()):
        raise UsageError("is the name of a task that comes with tuner; choose another", value=name)
    files = {Path(f"{stem}.py"): "task.py.txt", Path(f"{stem}.yaml"): "space.yaml.txt"}
    for path in files:
        if path.exists() and not force:
            raise UsageError("the file is there already", place=str(path), hint="Give --force to overwrite it.")
    class_name = "".join(part.capitalize() for part in stem.split("_")) or "MyTask"
    for path, template in files.items():
        text = (importlib.resources.files("tuner.cli") / "templates" / template).read_text(encoding="utf-8")
        path.write_text(text.replace("my_task", stem).replace("MyTask", class_name), encoding="utf-8")
    typer.echo(
        f"wrote {stem}.py (data, model, loss: make them yours) and {stem}.yaml (what is searched). Then:\n"
        f"  tuner check {stem}.py\n  tuner quick {stem}.py\n  tuner analyze {stem}-quick"
    )
