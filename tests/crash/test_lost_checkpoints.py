"""Checkpoints that are damaged or gone: an older one serves, or the trials restart, and the study is still equal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from halfway import Halfway
from harness import ROUND, resumed

pytestmark = pytest.mark.slow


def damage(path: Path, how: str) -> None:
    """Damage a file as disks and people do."""
    content = path.read_bytes()
    noise = os.urandom(len(content))
    head = 8 + int.from_bytes(content[:8], "little")
    damaged = {
        "truncated": content[: len(content) // 2],
        "emptied": b"",
        "garbage": noise,
        "garbage behind the header": content[:head] + noise[head:],
    }
    path.unlink() if how == "deleted" else path.write_bytes(damaged[how])


HOW = ["truncated", "emptied", "garbage", "garbage behind the header", "deleted"]


@pytest.mark.parametrize("how", HOW)
def test_without_the_newest_checkpoint_the_one_before_serves(half: Halfway, how: str) -> None:
    damage(half.checkpoints()[-1], how)
    resumed(half.server, half.job, half.reference, f"newest checkpoint {how}", most_again=2 * ROUND)


@pytest.mark.parametrize("how", HOW)
def test_without_any_checkpoint_trials_restart(half: Halfway, how: str) -> None:
    for path in half.checkpoints():
        damage(path, how)
    resumed(half.server, half.job, half.reference, f"checkpoints {how}", most_again=None)


def test_without_the_folder_of_checkpoints_trials_restart(half: Halfway) -> None:
    shutil.rmtree(half.checkpoints()[0].parent)
    resumed(half.server, half.job, half.reference, "no checkpoints", most_again=None)


def test_a_checkpoint_that_safetensors_has_half_written_goes(half: Halfway) -> None:
    newest = half.checkpoints()[-1]
    newest.with_name(".tmpHALkVH").write_bytes(newest.read_bytes()[:100])  # it writes under such names before renaming
    resumed(half.server, half.job, half.reference, "a half-written checkpoint")
