"""A clock that is set back between two runs, and while one runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from halfway import halfway
from harness import Server, resumed

DAY = 86_400.0


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [DAY, -DAY], ids=["back", "forward"])
def test_a_clock_set_elsewhere_changes_nothing(server: Server, folder: Path, seconds: float) -> None:
    half = halfway(server, folder)
    job = replace(half.job, harm="clock_set_back", harm_options={"seconds": seconds})
    resumed(server, job, half.reference, "with another clock")
