"""The warm-up and cosine, against its definition worked out with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.schedules.warmup_cosine import LinearWarmupCosineAnnealingLR


def optimizer(*rates: float) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=rates[0])


def rates_of(built: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in built.param_groups]


def followed(scheduler: LinearWarmupCosineAnnealingLR, steps: int) -> list[list[float]]:
    """The rates of each group, before and after each step of the scheduler."""
    seen = [rates_of(scheduler.optimizer)]
    for _ in range(steps):
        scheduler.optimizer.step()
        scheduler.step()
        seen.append(rates_of(scheduler.optimizer))
    return seen


def expected(base: float, warmup: int, end: int, start: float, low: float, count: int) -> np.ndarray:
    """By interpolation between the corners, and half a cosine period."""
    steps = np.arange(count + 1)
    rise = np.interp(steps, [0, max(warmup, 1e-9)], [start, base])
    fall = low + (base - low) * (np.cos(np.pi * np.clip((steps - warmup) / max(end - warmup, 1e-9), 0, 1)) + 1) / 2
    return np.where(steps <= warmup, rise if warmup else base, fall)


@given(
    end=st.integers(1, 30),
    share=st.floats(0, 1),
    start=st.floats(0, 0.2),
    low=st.floats(0, 0.01),
    bases=st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=3),
)
@settings(deadline=None, max_examples=60)
def test_every_group_follows_the_closed_form(
    end: int, share: float, start: float, low: float, bases: list[float]
) -> None:
    warmup = round(share * end)
    scheduler = LinearWarmupCosineAnnealingLR(optimizer(*bases), warmup, end, warmup_start_lr=start, eta_min=low)
    seen = np.array(followed(scheduler, end + 4))
    for column, base in zip(seen.T, bases, strict=True):
        np.testing.assert_allclose(column, expected(base, warmup, end, start, low, end + 4), rtol=1e-9, atol=1e-12)


def test_without_a_warm_up_it_is_torchs_cosine() -> None:
    ours = LinearWarmupCosineAnnealingLR(optimizer(0.1), 0, 10, eta_min=1e-3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer(0.1), 10, eta_min=1e-3)
    for _ in range(10):
        assert rates_of(ours.optimizer) == pytest.approx(rates_of(theirs.optimizer), rel=1e-9)
        for scheduler in (ours, theirs):
            scheduler.optimizer.step()
            scheduler.step()


def test_a_warm_up_of_one_step_starts_low_and_is_at_the_top_next() -> None:
    assert followed(LinearWarmupCosineAnnealingLR(optimizer(0.1), 1, 3), 3) == [
        [0.0],
        [0.1],
        [pytest.approx(0.05)],
        [pytest.approx(0.0, abs=1e-12)],
    ]


def test_a_warm_up_of_the_whole_length_ends_at_the_top() -> None:
    rates = followed(LinearWarmupCosineAnnealingLR(optimizer(0.4), 4, 4), 5)
    assert [rate for (rate,) in rates] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.0])


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_it_goes_on_from_its_state(steps: int) -> None:
    """Over a fresh optimizer, whose rates are those of a start."""
    first = LinearWarmupCosineAnnealingLR(optimizer(0.1, 0.02), 3, 12)
    whole = followed(first, steps)
    second = LinearWarmupCosineAnnealingLR(optimizer(0.1, 0.02), 3, 12)
    second.load_state_dict(first.state_dict())
    whole += followed(first, 5)[1:]
    assert followed(second, 5)[1:] == whole[-5:]


@pytest.mark.parametrize(
    ("warmup", "end", "rule"),
    [
        (5, 4, r"warmup_epochs must be from 0 to max_epochs \(4\), not 5"),
        (-1, 4, "warmup_epochs .* not -1"),
        (0, 0, "max_epochs must be at least 1, not 0"),
    ],
)
def test_lengths_that_make_no_sense_are_refused(warmup: int, end: int, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        LinearWarmupCosineAnnealingLR(optimizer(0.1), warmup, end)
