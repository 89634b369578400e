"""What the best trials' curves say: not converged, converged long before the end, a scheduler that did nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tuner.analysis.advice.findings import Advice, Change, Findings
from tuner.analysis.tables import TopTrial

FEWEST_EPOCHS, FEWEST_TRIALS = 5, 3

LATE, EARLY = 0.9, 0.5
"""Shares of the epochs: a best epoch behind the first is late, a curve at its best before the second was done early."""

STILL = 0.02
"""A curve whose last fifth brought this share of all that it gained was still going on."""

NEARLY = 0.98
"""A curve that has gained this share of all that it gains is at its best, but for noise."""

NOTHING = 1e-4
"""A best epoch at the end is no sign of progress where the last fifth brought no more than this share of the gain."""

USUAL_PATIENCE = 10
"""Epochs, torch.optim.lr_scheduler.ReduceLROnPlateau's own."""

CONSTANT = ("ConstantLR",)


@dataclass(frozen=True)
class _Curve:
    """One run: epochs asked and done, the best, when it had nearly all of its gain, and what the last fifth gave.

    Gains are those of the metric's logarithm where `log`.
    """

    asked: int
    done: int
    best: int
    nearly: int
    last_fifth: float
    log: bool

    @property
    def measure(self) -> str:
        """What its gains are measured in, as words that follow them."""
        return " (of the logarithm)" if self.log else ""


def _reported(findings: Findings) -> tuple[list[tuple[TopTrial, np.ndarray]], bool]:
    """The best trials with what they reported, so that higher is better; and whether these are logarithms.

    Those of a metric that is minimized and positive throughout are: a loss that falls by decades goes on falling when
    it is next to nothing beside what it was.
    """
    reports, found = findings.data.records.reports, []
    if reports.empty:
        return [], False
    for trial in findings.top:
        values = reports.loc[reports["trial"] == trial.number, "value"].to_numpy(dtype=float)
        if len(values) >= FEWEST_EPOCHS and np.isfinite(values).all():
            found.append((trial, values))
    if findings.data.maximize:
        return found, False
    log = all((values > 0).all() for _, values in found)
    return [(trial, -np.log(values) if log else -values) for trial, values in found], log


def _curves(findings: Findings) -> list[_Curve]:
    """The curves of the best trials."""
    found = []
    reported, log = _reported(findings)
    for trial, values in reported:
        so_far = np.maximum.accumulate(values)
        gain = so_far[-1] - values[0]
        if gain <= 0:
            continue
        before = so_far[max(0, round(0.8 * len(values)) - 1)]
        found.append(
            _Curve(
                trial.epochs_asked or len(values),
                len(values),
                int(values.argmax()) + 1,
                int((so_far >= values[0] + NEARLY * gain).argmax()) + 1,
                float((so_far[-1] - before) / gain),
                log,
            )
        )
    return found if len(found) >= FEWEST_TRIALS else []


def more_epochs(findings: Findings) -> Iterator[Advice]:
    """The best trials were still improving when their epochs were up."""
    curves = _curves(findings)
    going = [
        curve
        for curve in curves
        if curve.done >= curve.asked and curve.best > LATE * curve.done and curve.last_fifth >= STILL
    ]
    if not curves or len(going) < 0.8 * len(curves):
        return
    asked = max(curve.asked for curve in curves)
    last = statistics.median(curve.last_fifth for curve in going)
    stopping = findings.of_recipe("early_stopping") is not None
    never = "early stopping never fired, and " if stopping and not findings.ends.stopped.trials else ""
    searched = "epochs" in findings.data.columns
    do = f"train longer: more than {asked} epochs" + ("" if searched else f", say {2 * asked}")
    if "learning_rate" not in findings.data.columns:
        do += "; or raise the rate, with OneCycleLR"
    yield Advice(
        "more_epochs",
        "epochs",
        do,
        f"{never}{len(going)} of the best {len(curves)} trials have their best epoch at the end; "
        f"the last fifth of the epochs brought {last:.0%} of all they gained{curves[0].measure}",
        {"trials": len(going), "of": len(curves), "last_fifth": last, "epochs": asked},
        None if searched or not findings.data.recipe else Change(recipe={"epochs": 2 * asked}),
    )


def _constant_rate(findings: Findings) -> bool:
    """Whether the best trials that have epoch rows trained at one rate from end to end."""
    epochs = findings.data.records.epochs
    rows = epochs[epochs["trial"].isin([trial.number for trial in findings.top])]
    if rows.empty:
        return False
    rates = rows.groupby("trial")["learning_rate"]
    return bool((rates.max() - rates.min() <= 1e-9 * rates.max()).all())


def plateau(findings: Findings) -> Iterator[Advice]:
    """The best trials stopped improving long before their end, at a rate that stayed as it was."""
    middle = _done_early(findings)
    if middle is None or not _constant_rate(findings):
        return
    at, asked, measure = middle
    yield Advice(
        "plateau",
        "scheduler",
        "lower the rate as training goes on: ReduceLROnPlateau, or a cosine",
        f"the best trials had {NEARLY:.0%} of their gain{measure} by epoch {at} of {asked}, at a constant rate",
        {"epoch": at, "epochs": asked},
        Change(
            recipe={
                "scheduler": "ReduceLROnPlateau",
                "scheduler_kwargs": {"factor": 0.5, "patience": max(1, asked // 10)},
            }
        )
        if findings.data.recipe and "scheduler" not in findings.data.columns
        else None,
    )


def fewer_epochs(findings: Findings) -> Iterator[Advice]:
    """The best trials stopped improving long before their end, although the rate fell."""
    middle = _done_early(findings)
    if middle is None or _constant_rate(findings) or "epochs" in findings.data.columns:
        return
    at, asked, measure = middle
    if findings.of_recipe("early_stopping") is not None:
        return
    yield Advice(
        "fewer_epochs",
        "epochs",
        f"train for fewer epochs, or stop early: early_stopping: {{patience: {max(2, asked // 5)}}}",
        f"the best trials had {NEARLY:.0%} of their gain{measure} by epoch {at} of {asked}",
        {"epoch": at, "epochs": asked},
    )


def _done_early(findings: Findings) -> tuple[int, int, str] | None:
    """The median epoch at which the best trials had nearly all of their gain, if it is early and most of them were no
    longer getting better at the end; the epochs asked; and the measure of gains."""
    curves = [curve for curve in _curves(findings) if curve.done >= 2 * FEWEST_EPOCHS]
    if len(curves) < FEWEST_TRIALS:
        return None
    share = statistics.median(curve.nearly / curve.asked for curve in curves)
    going = sum(curve.best > LATE * curve.done and curve.last_fifth > NOTHING for curve in curves)
    asked = max(curve.asked for curve in curves)
    return (round(share * asked), asked, curves[0].measure) if share <= EARLY and going < len(curves) / 2 else None


def never_stepped(findings: Findings) -> Iterator[Advice]:
    """There is a scheduler, but no trial's rate ever changed."""
    scheduler = findings.of_recipe("scheduler")
    epochs = findings.data.records.epochs
    if scheduler in (None, "auto", *CONSTANT) or "scheduler" in findings.data.columns or findings.of_recipe("timeline"):
        return
    rates = epochs[epochs["trial"].isin(findings.data.complete.index)].groupby("trial")["learning_rate"]
    long = rates.size() >= FEWEST_EPOCHS
    if long.sum() < FEWEST_TRIALS or ((rates.max() - rates.min()) > 1e-9 * rates.max())[long].any():
        return
    patience, most = findings.of_recipe("scheduler_kwargs.patience"), int(rates.size().max())
    lower = min((USUAL_PATIENCE if patience is None else patience) - 1, most // 10)
    waits = scheduler == "ReduceLROnPlateau"
    do = f"give {scheduler} shorter steps, or leave it out"
    if waits:
        less = f"lower the patience of {scheduler} to {lower}, or leave it out"
        do = less if lower >= 0 else f"leave {scheduler} out"
    yield Advice(
        "scheduler_idle",
        "scheduler",
        do,
        f"{scheduler} never changed the rate in {int(long.sum())} trials of up to {most} epochs"
        + ("" if patience is None else f" (patience {patience})"),
        {"scheduler": scheduler, "trials": int(long.sum()), "epochs": most},
        Change(recipe={"scheduler_kwargs.patience": lower}) if waits and lower >= 0 else None,
    )
