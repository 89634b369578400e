"""Prints a search's events: a live bar on a terminal, plain lines elsewhere, JSON lines, or the result only."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from tuner.events import (
    Emit,
    EpochDone,
    Event,
    Note,
    StudyEnded,
    StudyOpened,
    TrialEnded,
    TrialStarted,
)
from tuner.report.words import measured, short_names, shown

STYLES = {"complete": "green", "pruned": "yellow", "diverged": "magenta", "failed": "red"}


@contextmanager
def reporter(*, quiet: bool, as_json: bool, studies: Path) -> Iterator[Emit]:
    """An `Emit` that prints events in the way that fits where they go."""
    if as_json:
        yield _print_json
        return
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    if quiet:
        yield _Lines(console, studies, only_result=True)
    elif console.is_terminal:
        with _Bar(console, studies) as bar:
            yield bar
    else:
        yield _Lines(console, studies)


def _print_json(event: Event) -> None:
    print(json.dumps(_plain(event.as_dict()), allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinities: null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


class _Lines:
    """One line per finished trial."""

    def __init__(self, console: Console, studies: Path, only_result: bool = False) -> None:
        self.console, self.studies, self.only_result = console, studies, only_result
        self.opened: StudyOpened | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, StudyOpened):
            self.opened = event
        if isinstance(event, StudyEnded):
            self.console.print(result_lines(event, self.opened, self.studies))
        elif not self.only_result:
            for line in self.lines(event):
                self.console.print(line)
        elif isinstance(event, Note) and event.level == "warning":
            self.console.print(line_of_note(event))

    def lines(self, event: Event) -> list[RenderableType]:
        """What an event other than the study's end prints."""
        if isinstance(event, StudyOpened):
            return [opening(event)]
        if isinstance(event, Note):
            return [line_of_note(event)]
        if isinstance(event, TrialEnded):
            return [trial_line(event, self.console.width if self.console.is_terminal else None)]
        return []


class _Bar(_Lines):
    """The lines, and below them a bar with the trial in training, the best value, the rate and the time left."""

    def __init__(self, console: Console, studies: Path) -> None:
        super().__init__(console, studies)
        narrow = console.width < 80
        self.progress = Progress(
            BarColumn(bar_width=10 if narrow else 24),
            TextColumn("{task.fields[status]}", markup=False),
            console=console,
            transient=True,
            refresh_per_second=8,
        )
        self.task: TaskID | None = None
        self.flying: dict[int, tuple[int, int]] = {}
        self.done = 0
        self.before = 0
        self.best: tuple[float | None, int | None] = (None, None)
        self.started = time.monotonic()

    def __enter__(self) -> _Bar:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, StudyOpened):
            self.before = self.done = event.counted
            self.best = (event.best_value, event.best_trial)
            self.task = self.progress.add_task("", total=event.trials, status="")
        elif isinstance(event, TrialStarted):
            self.flying[event.trial] = (event.epochs_done, event.epochs)
        elif isinstance(event, EpochDone):
            self.flying[event.trial] = (event.epoch, event.epochs)
        elif isinstance(event, TrialEnded):
            self.flying.pop(event.trial, None)
            self.done, self.best = event.counted, (event.best_value, event.best_trial)
        elif isinstance(event, StudyEnded):
            self.progress.stop()
        super().__call__(event)
        if self.task is not None and not isinstance(event, StudyEnded):
            self.progress.update(self.task, completed=self._position(), status=self._status())

    def _position(self) -> float:
        """Trials done, those in flight counted by their share of epochs."""
        return self.done + sum(epoch / epochs for epoch, epochs in self.flying.values() if epochs)

    def _status(self) -> str:
        assert self.opened is not None
        total = self.opened.trials
        parts = [f"{self.done}/{total}" if total else f"{self.done}"]
        value, number = self.best
        if value is not None:
            parts.append(f"best {measured(value)} (trial {number})")
        elapsed, gained = time.monotonic() - self.started, self._position() - self.before
        if gained > 0:
            parts.append(f"{60 * gained / elapsed:.3g}/min")
            if total:
                parts.append(f"{duration(elapsed / gained * max(0.0, total - self._position()))} left")
        flying = [f"trial {trial}: epoch {epoch}/{epochs}" for trial, (epoch, epochs) in self.flying.items() if epochs]
        if self.progress.console.width >= 100:
            parts += flying[:2]
        return "  ".join(parts)


def opening(event: StudyOpened) -> Text:
    """The line a search begins with."""
    goal = f"{event.metric}, {event.direction}d"
    until = "" if event.trials is None else f" of {event.trials}"
    flying = f", {event.in_flight} in flight" if event.in_flight else ""
    state = f"resumed at trial {event.counted}{until}{flying}" if event.resumed else "new"
    return Text(f"study {event.study} ({state}): {event.task}, {goal}, on {event.device}", style="bold")


def line_of_note(event: Note) -> Text:
    """A note, warnings marked as such."""
    return Text(f"warning: {event.message}", style="yellow") if event.level == "warning" else Text(event.message, "dim")


def trial_line(event: TrialEnded, width: int | None = None) -> RenderableType:
    """One finished trial: number, state, value, epochs, time, parameters, and the reason where it says more.

    On a terminal of `width` columns parameters wrap in a column of their own, where there is room for one.
    """
    value = measured(event.value)
    head = Text(f"{event.trial:>4} ")
    head.append(f"{event.state:<8} ", style=STYLES.get(event.state, ""))
    head.append(f"{value:>9} ", style="bold" if event.is_best else "")
    head.append("* " if event.is_best else "  ", style="bold green")
    if event.epochs_asked:
        head.append(f"{event.epochs_done:>3}/{event.epochs_asked} ep ", style="dim")
    head.append(f"{duration(event.seconds):>6}", style="dim")
    tail = Text(parameters(event.params))
    if event.reason and not event.reason.startswith("pruned by the pruner"):
        tail.append(f"  ({event.reason})", style="dim")
    if width is None or width - head.cell_len < 36:
        return Text("  ").join([head, tail])
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(head, tail)
    return grid


def result_lines(event: StudyEnded, opened: StudyOpened | None, studies: Path) -> Text:
    """How the search ended, and what to do with it."""
    text = Text(f"{event.study}: {event.reason}, in {duration(event.seconds)}.\n")
    where = "" if studies == Path("studies") else f" --studies {studies}"
    if event.best_value is None:
        text.append("No trial completed.\n", style="red")
        return text.append(f"  tuner analyze {event.study}{where}")
    metric = opened.metric if opened else "value"
    text.append(f"Best: trial {event.best_trial}, {metric} {measured(event.best_value)}\n", style="bold")
    return text.append(f"  tuner analyze {event.study}{where}\n  tuner export {event.study}{where}")


def parameters(params: Mapping[str, Any]) -> str:
    """Searched values in short: `learning_rate=0.01262 batch_size=32`."""
    names = short_names(list(params))
    return " ".join(f"{name}={shown(value)}" for name, value in zip(names, params.values(), strict=True))


def duration(seconds: float) -> str:
    """`4.2s`, `3m05s`, `2h10m`."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


@contextmanager
def epoch_reporter(*, quiet: bool, as_json: bool) -> Iterator[Emit]:
    """An `Emit` for a single run: a line an epoch, JSON lines, or notes of weight only."""
    if as_json:
        yield _print_json
        return
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())

    def show(event: Event) -> None:
        if isinstance(event, Note) and (not quiet or event.level == "warning"):
            console.print(line_of_note(event))
        elif isinstance(event, EpochDone) and not quiet:
            losses = [("train loss", event.train_loss), ("val loss", event.val_loss)]
            others = [(name, value) for name, value in event.metrics.items() if _worth_a_line(name, event)]
            cells = [f"{name} {measured(value):>6}" for name, value in [*losses, *others]]
            head = f"epoch {event.epoch:>{len(str(event.epochs))}}/{event.epochs}"
            console.print("  ".join([head, *cells, f"lr {event.learning_rate:.3g}"]), markup=False)

    yield show


def _worth_a_line(name: str, event: EpochDone) -> bool:
    """Validation metrics; a term that is the whole loss says nothing new."""
    value = event.metrics[name]
    return name.startswith("val_") and name != "val_loss" and value != event.val_loss
