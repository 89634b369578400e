"""Fixtures of the crash tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from halfway import Halfway, halfway
from harness import Server, Trained, serving, whole
from job import Job


def in_memory() -> AbstractContextManager[str]:
    """An empty folder, in memory where it can be: a killed process loses nothing there, and syncing takes no time."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder."""
    with in_memory() as name:
        yield Path(name)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A fork server for all tests of this process."""
    with serving() as started:
        yield started


@pytest.fixture(scope="session")
def reference(server: Server) -> Iterator[Trained]:
    """The search that is never interrupted, for all tests to compare theirs with."""
    with in_memory() as name:
        yield whole(server, Job(f"{name}/whole"))


@pytest.fixture(scope="session")
def halfway_killed(server: Server, reference: Trained) -> Iterator[Halfway]:
    """A search killed halfway, for all tests to copy."""
    with in_memory() as name:
        yield halfway(server, Path(name), reference)


@pytest.fixture
def half(halfway_killed: Halfway, folder: Path) -> Halfway:
    """A search killed halfway, for one test."""
    return halfway_killed.copied(folder / "half")
