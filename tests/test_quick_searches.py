"""Quick searches end by themselves and learn (arc and denoise: see their own tests). `make test-long` runs these."""

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
