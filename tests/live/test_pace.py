"""How much of a session's time previews take and how often the page is told, by a clock that the test moves on."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.live.pace import Pace
from tuner.live.showing import Showing


@dataclass
class Clock:
    """Stands in for the module `time`."""

    now: float = 100.0

    def perf_counter(self) -> float:
        return self.now


@dataclass
class Page:
    """What a page was told, and when."""

    clock: Clock
    told: dict[str, list[float]] = field(default_factory=dict)
    broken: bool = False

    def tell(self, kind: str, **content: Any) -> None:
        self.told.setdefault(kind, []).append(self.clock.now)

    show = tell

    def close(self, words: str) -> None: ...


def trained(step_seconds: float, preview_seconds: float, steps: int) -> tuple[Page, float, float]:
    """A session of steps with previews; gives its page, its seconds, and those of its previews."""
    clock = Clock()
    page = Page(clock)
    with mock.patch("tuner.live.pace.time", clock), mock.patch("tuner.live.showing.time", clock):
        pace = Pace()

        def preview() -> list[str]:
            clock.now += preview_seconds
            return ["a picture"]

        showing = Showing(page, pace, preview)
        began = clock.now
        for step in range(steps):
            clock.now += step_seconds
            showing.add(step, {"loss": 1.0})
            if pace.may_preview():
                showing.show_preview(step)
            if pace.may_tell():
                showing.tell_rows()
    return page, clock.now - began, len(page.told["frame"]) * preview_seconds


@given(step_ms=st.floats(0.1, 2000), preview_ms=st.floats(0.01, 3000))
def test_previews_of_any_cost_take_less_than_a_twentieth_of_the_time(step_ms: float, preview_ms: float) -> None:
    _, seconds, previewing = trained(step_ms / 1000, preview_ms / 1000, steps=400)
    firsts = 3 * preview_ms / 1000  # the first says nothing of others, the second is measured, one may be the last
    assert previewing <= 0.05 * (seconds - previewing) + firsts


@pytest.mark.parametrize(("preview_ms", "gap"), [(0.1, 0.03), (15, 1.0), (150, 10.0)])
def test_dearer_previews_come_less_often_and_do_not_stop(preview_ms: float, gap: float) -> None:
    page, _, _ = trained(0.002, preview_ms / 1000, steps=20_000)
    gaps = [after - before for before, after in pairwise(page.told["frame"][1:])]
    assert len(gaps) >= 3
    assert gaps == pytest.approx([gap + preview_ms / 1000] * len(gaps), abs=0.003)


@pytest.mark.parametrize(("step_seconds", "each_second"), [(0.001, 10), (0.25, 4)])
def test_curves_go_on_ten_times_a_second_or_with_every_longer_step(step_seconds: float, each_second: int) -> None:
    page, seconds, _ = trained(step_seconds, 0.0001, steps=2000)
    assert len(page.told["rows"]) / seconds == pytest.approx(each_second, rel=0.05)
