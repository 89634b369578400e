"""The promise of the first command: `tuner quick digits` finds a good model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.slow
def test_quick_digits_reaches_96_percent_and_analyze_names_the_trial(workplace: Path, tuner) -> None:
    assert tuner("quick", "digits", "--quiet").code == 0
    found = json.loads(tuner("analyze", "digits-quick", "--json").out)
    assert found["best"]["value"] >= 0.96
    assert found["counts"]["counted"] == 20
    text = tuner("analyze", "digits-quick").out
    assert f"trial {found['best']['number']}, val_accuracy {found['best']['value']:.4g}" in text
