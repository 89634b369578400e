"""The promise of every bundled task: its quick search ends by itself and learns. `make test-long` runs these."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.storage.studies import Studies


def best_epoch(study: str) -> dict[str, float]:
    """Every value recorded at the epoch that gave the study its best value."""
    opened = Studies(Path("studies")).load(study)
    best = opened.study.best_trial
    rows = opened.epochs.read([best._trial_id])
    return next(row["metrics"] for row in rows if row["epoch"] == best.user_attrs["best_epoch"])


@pytest.mark.long
def test_quick_colors_reconstructs(own_folder: Path, tuner) -> None:
    assert tuner("quick", "colors", "--quiet").code == 0
    assert best_epoch("colors-quick")["val_recon"] < 1e-3


@pytest.mark.long
def test_quick_picture_reaches_20_db(own_folder: Path, tuner) -> None:
    assert tuner("quick", "picture", "--quiet").code == 0
    assert best_epoch("picture-quick")["val_psnr"] >= 20


@pytest.mark.long
def test_quick_denoise_takes_noise_out(own_folder: Path, tuner) -> None:
    """At least 2 dB on unseen voices, and better than doing nothing (0 dB) at each of 0, 5 and 10 dB."""
    assert tuner("quick", "denoise", "--quiet").code == 0
    found = best_epoch("denoise-quick")
    assert found["val_snr_improvement"] >= 2
    for level in (0, 5, 10):
        assert found[f"val_snr_improvement_at_{level}db"] > 0
    assert "good" in tuner("analyze", "denoise-quick").out


@pytest.mark.long
def test_quick_arc_is_better_than_copying(own_folder: Path, tuner) -> None:
    assert tuner("quick", "arc", "--quiet").code == 0
    found = best_epoch("arc-quick")
    assert found["val_cell_accuracy"] > found["val_copy_cell_accuracy"]
