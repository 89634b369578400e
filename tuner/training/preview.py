"""A run's previews as an animation: a picture every so many steps."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tuner.errors import UsageError
from tuner.files import write_atomically
from tuner.tasks.base import Task
from tuner.training.plain import PlainRun

if TYPE_CHECKING:  # only pictures need Pillow
    from PIL.Image import Image

FRAME_MILLISECONDS = 60
LAST_MILLISECONDS = 2_000
SHORTEST_MILLISECONDS = 2_000
"""An animation of few frames lasts at least so long."""


class Recorder:
    """Takes the task's preview of a run before its first step and every `every` steps."""

    def __init__(self, task: Task, run: PlainRun, every: int) -> None:
        self._task, self._run, self._every = task, run, every
        self._frames: list[Image] = []
        self.take(0)
        if not self._frames:
            raise UsageError("the task draws no preview", place="--record-preview", value=type(task).__name__)

    def take(self, step: int) -> None:
        """Take a frame where `step`, the number of steps done, asks for one."""
        if step % self._every:
            return
        self._run.model.eval()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            picture = self._task.preview(self._run.model, self._run.data)
        if picture is not None:
            self._frames.append(picture.convert("RGB").quantize(128))

    def save(self, path: Path) -> None:
        """Write the frames, and one of the run as it is now, as an animated GIF; the last one stands for a while."""
        if self._run.steps_done % self._every:
            self.take(0)
        content = io.BytesIO()
        each = max(FRAME_MILLISECONDS, SHORTEST_MILLISECONDS // len(self._frames))
        times = [each] * (len(self._frames) - 1) + [LAST_MILLISECONDS]
        first, *rest = self._frames
        first.save(content, format="GIF", save_all=True, append_images=rest, duration=times, loop=0)
        write_atomically(path, content.getvalue())


def recorder_of(every: int | None, task: Task, run: PlainRun) -> Recorder | None:
    """A recorder with a frame every so many steps, or none."""
    return None if every is None else Recorder(task, run, every)
