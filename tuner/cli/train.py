"""`tuner train`: one recipe, trained and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli import options


def train(
    task: options.TrainTarget = None,
    study: options.FromStudy = None,
    trial: options.FromTrial = None,
    settings: options.Settings = None,
    recipe: options.Recipe = None,
    data: options.DataPath = None,
    timeline: Annotated[
        Path | None,
        typer.Option(
            "--timeline",
            help="Train a session of `tuner live` again (its folder), or by the timeline in a CSV file.",
            metavar="SESSION",
            show_default=False,
        ),
    ] = None,
    record_preview: Annotated[
        int | None,
        typer.Option("--record-preview", min=1, help="Write an animation, a frame every N steps.", metavar="N"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write. [default: studies/TASK-train-N]")
    ] = None,
    studies: options.StudiesFolder = Path("studies"),
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Train one recipe; save its weights, recipe, epochs and per-step series."""
    from tuner.cli.progress import epoch_reporter
    from tuner.report.words import plural
    from tuner.search_space.settings import parse_settings

    fixed = parse_settings(settings or [], data)
    by_file = timeline is not None and timeline.suffix.lower() == ".csv"
    if by_file:
        fixed = {**fixed, "timeline": str(timeline)}
    with epoch_reporter(quiet=quiet, as_json=json) as emit:
        from tuner.search import quiet_optuna
        from tuner.single import TrainRequest, train_recipe

        quiet_optuna()
        request = TrainRequest(task, study, trial, studies, out, fixed, device, recipe, record_preview)
        if timeline is None or by_file:
            found = train_recipe(request, emit)
        else:
            from tuner.live.replay import replay

            found = replay(timeline, request, emit)
    if json:
        from json import dumps

        typer.echo(dumps({"event": "Trained", "folder": str(found.folder), "value": found.value, "gap": found.gap}))
        return
    ended = found.reason or f"{plural(found.epochs_done, 'epoch')} trained"
    value = "no value" if found.value is None else f"{found.metric} {found.value:.4g}"
    gap = "" if found.gap is None else f", gap {found.gap:.3g}"
    animated = "" if record_preview is None else ", the animation as preview.gif"
    typer.echo(f"{ended}: {value}{gap}\nsaved in {found.folder}{animated}")
