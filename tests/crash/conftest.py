"""Fixtures of the crash tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Server, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A fork server for all tests of this process."""
    with serving() as started:
        yield started


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder, in memory where it can be: a killed process loses nothing there, and syncing takes no time."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)
