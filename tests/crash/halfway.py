"""A search killed halfway, for tests of what else can befall it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness import Server, Trained, killed, whole
from job import Job


@dataclass(frozen=True)
class Halfway:
    """A search killed halfway, how to resume it, and the same one never killed."""

    server: Server
    job: Job
    trained: Trained
    reference: Trained

    def checkpoints(self) -> list[Path]:
        """The study's checkpoints, oldest first."""
        return sorted(self.trained.folder.glob("studies/crash/checkpoints/*.safetensors"))


def halfway(server: Server, folder: Path, mode: str = "tpe-median") -> Halfway:
    """Run a search whole and once more, killed late, at a moment when two checkpoints are there."""
    reference = whole(server, Job(str(folder / "whole"), mode=mode))
    points = reference.outcome["points"]
    for kill_at in range(len(points) * 9 // 10, 0, -1):
        if points[kill_at - 1] == "after commit":
            job = Job(str(folder / f"killed-{kill_at}"), mode=mode)
            found = Halfway(server, job, killed(server, job, kill_at), reference)
            if len(found.checkpoints()) == 2:
                return found
    raise AssertionError("there are never two checkpoints")
