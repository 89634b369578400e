"""`tuner`: the commands, and what becomes of errors."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
from typing import Annotated

import typer

from tuner import __version__
from tuner.cli import analyze, applying, check, confirm, dashboard, export, init, listing, live, run, schedule, train
from tuner.errors import InterruptedRunError, TunerError

app = typer.Typer(
    name="tuner",
    help="Find good hyperparameters for PyTorch models, and understand them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("quick")(run.with_mode("quick", "Look around in minutes: run a search space's mode `quick`."))
app.command("full")(run.with_mode("full", "Search in earnest: run a search space's mode `full`."))
app.command("run")(run.run)
app.command("train")(train.train)
app.command("analyze")(analyze.analyze)
app.command("confirm")(confirm.confirm)
app.command("apply")(applying.apply)
app.command("live")(live.live)
app.command("schedule")(schedule.schedule)
app.command("check")(check.check)
app.command("init")(init.init)
app.command("dashboard")(dashboard.dashboard)
app.command("list")(listing.list_studies)
app.command("export")(export.export)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tuner {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if debug:
        os.environ["TUNER_DEBUG"] = "1"


def main() -> None:
    """Run the command line; errors a person can act on become one message and an exit code."""
    try:
        app()
    except InterruptedRunError as error:
        _say(f"interrupted. {error.kept}\n  {_command()}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if os.environ.get("TUNER_DEBUG"):
            raise
        _say(f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        sys.exit(1)
    except TunerError as error:
        if os.environ.get("TUNER_DEBUG"):
            raise
        _say(f"error: {error}")
        sys.exit(error.exit_code)
    except Exception as error:
        if os.environ.get("TUNER_DEBUG"):
            raise
        _say(f"unexpected error: {type(error).__name__}: {error}\nRun `tuner --debug ...` for the traceback.")
        sys.exit(1)


def _say(text: str) -> None:
    """Print to stderr, wrapped between words on a terminal; lines that begin with a blank stay whole."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else 0
    for line in text.splitlines():
        whole = not width or line.startswith(" ")
        wrapped = line if whole else textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
        typer.echo(wrapped, err=True)


def _command() -> str:
    """The command as it was typed."""
    return "tuner " + shlex.join(sys.argv[1:])
