"""A search killed halfway, for tests of what else can befall it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from harness import Server, Trained, killed
from job import Job


@dataclass(frozen=True)
class Halfway:
    """A search killed halfway, how to resume it, and the same one never killed."""

    server: Server
    job: Job
    reference: Trained

    @property
    def trained(self) -> Trained:
        """What the killed search has left."""
        return Trained(Path(self.job.folder))

    def checkpoints(self) -> list[Path]:
        """The study's checkpoints, oldest first."""
        return sorted(self.trained.folder.glob("studies/crash/checkpoints/*.safetensors"))

    def copied(self, folder: Path) -> Halfway:
        """The same in another folder."""
        shutil.copytree(self.job.folder, folder)
        return replace(self, job=replace(self.job, folder=str(folder)))


def halfway(server: Server, folder: Path, reference: Trained) -> Halfway:
    """Run the reference's search once more, killed late, at a moment when two checkpoints are there."""
    points = reference.outcome["points"]
    for kill_at in range(len(points) * 9 // 10, 0, -1):
        if points[kill_at - 1] == "after commit":
            found = Halfway(server, Job(str(folder / f"killed-{kill_at}")), reference)
            killed(server, found.job, kill_at)
            if len(found.checkpoints()) == 2:
                return found
    raise AssertionError("there are never two checkpoints")
