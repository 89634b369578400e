"""A clock that is set back between two runs, and while one runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from halfway import Halfway
from harness import resumed

DAY = 86_400.0


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [DAY, -DAY], ids=["back", "forward"])
def test_a_clock_set_elsewhere_changes_nothing(half: Halfway, seconds: float) -> None:
    job = replace(half.job, harm="clock_set_back", harm_options={"seconds": seconds})
    resumed(half.server, job, half.reference, "with another clock")
