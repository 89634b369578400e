"""Ten training losses a task, so that a change that should not change results is seen not to."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tuner.tasks import bundled

spec = importlib.util.spec_from_file_location("golden_losses", Path(__file__).parent / "losses.py")
assert spec is not None
assert spec.loader is not None
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)


@pytest.mark.parametrize("name", sorted(bundled()))
def test_the_first_ten_losses_are_those_on_record(name: str) -> None:
    recorded = json.loads(golden.path_of(name).read_text())
    assert len(recorded) == golden.STEPS
    assert golden.losses_of(name) == pytest.approx(recorded, rel=1e-3)
