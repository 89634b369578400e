"""The promise of the first command: `tuner quick digits` finds a good model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.slow
def test_quick_digits_reaches_96_percent_and_analyze_names_the_trial(own_folder: Path, tuner) -> None:
    assert tuner("quick", "digits", "--quiet").code == 0
    found = json.loads(tuner("analyze", "digits-quick", "--json").out)
    assert found["best"]["value"] >= 0.96
    assert found["counts"]["counted"] == 20
    text = tuner("analyze", "digits-quick").out
    assert f"trial {found['best']['number']}, val_accuracy {found['best']['value']:.4g}" in text


@pytest.mark.long
def test_quick_digits_holds_for_other_study_seeds(own_folder: Path, tuner) -> None:
    """The mean of the best value over three study seeds is printed with `-s`."""
    best = []
    for seed in ("0", "1", "2"):
        assert tuner("quick", "digits", "--quiet", "--study", f"seed-{seed}", "--study-seed", seed).code == 0
        best.append(json.loads(tuner("analyze", f"seed-{seed}", "--json").out)["best"]["value"])
    print(f"best val_accuracy by study seed: {best}, mean {sum(best) / 3:.4f}")
    assert min(best) >= 0.96
