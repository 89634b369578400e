"""The process that trains a study, as the lock file and the lease name it."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path


def host_name() -> str:
    """This machine's name in its network."""
    return platform.node()


def boot_id() -> str:
    """What tells this start of the machine from every other; empty where the system has no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Owner:
    """A process on a machine; `started` is when it took the study, in local time, for people to read."""

    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> Owner:
        """This process, now."""
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        return cls(host_name(), boot_id(), os.getpid(), now)

    def is_on_machine_of(self, other: Owner) -> bool:
        """Whether both run on one machine: containers share its boot id, a restart keeps its name."""
        return self.host == other.host or (self.boot != "" and self.boot == other.boot)

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}, since {self.started}"

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Owner | None:
        """What `to_json` wrote, or None for anything else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None
