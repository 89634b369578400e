"""Where a trial's files lie; and files in place at once or not at all, there to stay."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def weights_path(study: Path, trial: int) -> Path:
    """Where a trial's weights lie in the folder of its study; its recipe lies beside them as `.yaml`."""
    return study / f"trial-{trial:04d}.safetensors"


def series_path(study: Path, trial: int) -> Path:
    """Where a trial's per-step series lie in the folder of its study."""
    return study / "series" / f"trial-{trial:04d}.npz"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, to write the file at; it takes the name `path` when the block ends well.

    File and name are then durable: both survive a loss of power. After an exception nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        _sync(draft)
        draft.replace(path)
        _sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it, synced to disk before it takes the name."""
    with replacing(path) as draft:
        draft.write_bytes(content)


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    if path.is_dir():
        if os.name == "nt":  # Windows opens no folder, and writes names through
            return
        handle = os.open(path, os.O_RDONLY)
    else:
        handle = os.open(path, os.O_RDWR)  # Windows syncs nothing that is open for reading
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
