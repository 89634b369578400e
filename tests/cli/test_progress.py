"""The live bar, drawn on made-up terminals."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tuner.cli.progress import _Bar, duration, parameters
from tuner.events import EpochDone, Note, StudyEnded, StudyOpened, TrialEnded, TrialStarted


def shown(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, highlight=False, color_system=None)
    with _Bar(console, Path("studies")) as bar:
        bar(StudyOpened("digits-quick", "digits", "quick", "val_accuracy", "maximize", 20, 0, False, "cpu"))
        bar(TrialStarted(0, {"learning_rate": 0.001}, 10))
        bar(EpochDone(0, 5, 10, 0.3, 0.4, 0.001, 0.91))
        bar.progress.refresh()
        bar(Note("trial 0, epoch 5: val_loss is on a plateau"))
        params = {"learning_rate": 0.0012345, "model.channels": 16}
        bar(TrialEnded(0, "complete", 0.97222, "", params, 10, 10, 4.2, 0.01, 1, 0.97222, 0, True))
        bar.progress.refresh()
        bar(StudyEnded("digits-quick", "20 of 20 trials are done", 20, 0.97222, 0, 61.0))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 80, 140])
def test_bar_shows_best_rate_and_time_left(width: int) -> None:
    text = shown(width)
    assert "0/20" in text
    assert "/min" in text
    assert "best 0.9722 (trial 0)" in " ".join(text.split())
    assert "left" in text
    if width >= 100:
        assert "trial 0: epoch 5/10" in text


def test_lines_hold_value_state_and_parameters() -> None:
    text = shown(120)
    assert "0 complete    0.9722 *  10/10 ep   4.2s  learning_rate=0.001234 channels=16" in text
    assert "20 of 20 trials are done, in 1m01s" in text
    assert "plateau" in text


def test_numbers_in_words() -> None:
    assert [duration(value) for value in (4.21, 65, 7800)] == ["4.2s", "1m05s", "2h10m"]
    searched = {"learning_rate": 0.012345, "model.recurrence": "full", "loss_weights.mse": 1.0, "x": None}
    assert parameters(searched) == "learning_rate=0.01235 recurrence=full loss_weights.mse=1 x=null"
