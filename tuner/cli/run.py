"""`tuner quick`, `tuner full`, `tuner run --mode NAME`: search, or go on searching."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from tuner.cli import options
from tuner.errors import UsageError


def run(
    task: options.Task = None,
    mode: Annotated[str, typer.Option("--mode", "-m", help="Mode of the search space to run.")] = "quick",
    study: Annotated[str | None, typer.Option("--study", help="Study's name. [default: TASK-MODE]")] = None,
    studies: options.StudiesFolder = Path("studies"),
    space: options.SpaceFile = None,
    settings: options.Settings = None,
    recipe: options.Recipe = None,
    data: options.DataPath = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all, over all runs of the study.")] = None,
    time: Annotated[
        str | None, typer.Option(help="Training time in all, such as 30m or 2h; trials begun are finished.")
    ] = None,
    stop_without_improvement: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many trials without a better one.", metavar="N")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="grid, random, tpe, gp, cmaes or qmc.")] = None,
    pruner: Annotated[
        str | None, typer.Option(help="none, median, percentile, hyperband, asha, patient or threshold.")
    ] = None,
    direction: Annotated[str | None, typer.Option(help="minimize or maximize, for script.py:objective.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Trials in flight at once.", metavar="W")] = None,
    fuse: Annotated[
        str | None, typer.Option(help="Train trials of one shape as one batched model: auto, off, or K at most.")
    ] = None,
    study_seed: Annotated[int | None, typer.Option(min=0, help="Seed of the sampler.")] = None,
    keep: Annotated[str, typer.Option(help="Weights to keep: best, top-K or all.")] = "best",
    enqueue: Annotated[
        Path | None, typer.Option(help="YAML list of known-good settings to try first.", show_default=False)
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            "--warm-start",
            help="Begin with what an earlier study found: its name, FILE.db, or FILE.db:NAME.",
            metavar="STUDY",
            show_default=False,
        ),
    ] = None,
    around: Annotated[
        Path | None,
        typer.Option(
            "--around",
            help="Search around a session of `tuner live` (its folder).",
            metavar="SESSION",
            show_default=False,
        ),
    ] = None,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on with a study although its settings changed.")
    ] = False,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Run a mode of a task's search space. Run the same command again to go on after anything."""
    from tuner.cli.guess import which_target
    from tuner.cli.progress import reporter
    from tuner.search_space.settings import parse_settings

    overrides = {
        "trials": trials,
        "time": time,
        "stop_without_improvement": stop_without_improvement,
        "sampler": sampler,
        "pruner": pruner,
        "parallel": parallel,
        "fuse": int(fuse) if fuse is not None and fuse.isdigit() else fuse,
        "study_seed": study_seed,
    }
    fixed = parse_settings(settings or [], data)
    if around is not None and (space is not None or recipe is not None):
        raise UsageError(
            "goes without --space and --recipe: the session says both", place="--around", value=str(around)
        )
    target = task or ("" if around is not None else which_target(studies, mode))
    with reporter(quiet=quiet, as_json=json, studies=studies) as emit:
        from tuner.search import SearchRequest, quiet_optuna, search

        quiet_optuna()
        if around is not None:
            from tuner.around import space_around

            target, study = str(space_around(around, task, mode)), study or f"{around.resolve().name}-{mode}"
        request = SearchRequest(
            target=target,
            mode=mode,
            studies=studies,
            study=study,
            space_file=space,
            settings=fixed,
            recipe=recipe,
            overrides=overrides,
            direction=direction,
            device=device,
            keep=keep,
            enqueue=enqueue,
            warm_start=warm_start,
            accept_changes=accept_changes,
        )
        search(request, emit)


def with_mode(mode: str, help_text: str) -> Callable[..., None]:
    """The command `run` with its mode fixed."""

    @wraps(run)
    def command(**kwargs: Any) -> None:
        run(mode=mode, **kwargs)

    signature = inspect.signature(run, eval_str=True)
    kept = [parameter for name, parameter in signature.parameters.items() if name != "mode"]
    command.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    command.__doc__ = f"{help_text} Run the same command again to go on after anything."
    return command
