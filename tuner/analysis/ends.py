"""Runs that ended before their last epoch: stopped early or pruned; and whether that was right."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tuner.analysis.data import StudyData
from tuner.analysis.trials import cells, finite

FEWEST = 8
"""Complete trials below which it is not said how early values go with final ones."""

ONE_SIDED = 1.645
"""The normal distribution's 95th percentile."""


@dataclass(frozen=True)
class Cuts:
    """`trials` that ended early, at epochs with these quartiles, and the epochs that were not trained for it.

    `saved` is None where it is not known how many epochs were asked for.
    """

    trials: int
    first_quarter: float | None = None
    median: float | None = None
    third_quarter: float | None = None
    saved: int | None = None


@dataclass(frozen=True)
class Ends:
    """How runs ended: `stopped` early and complete, `pruned`, or all epochs trained (`whole`).

    `improving` counts the pruned trials whose last report was their best. `agreement` is Spearman's rank correlation
    of the complete trials' values at epoch `at`, at which the median trial was pruned (of two, the earlier), with their
    final values: what pruning goes by; with 95 % confidence it is at most `agreement_most`. `late` is how many of the
    complete trials that stood there as low as the pruned ones' median ended in the best quarter all the same, of `low`.
    """

    stopped: Cuts
    pruned: Cuts
    whole: int
    improving: int = 0
    at: int | None = None
    agreement: float | None = None
    agreement_most: float | None = None
    late: int | None = None
    low: int | None = None


def ends_of(data: StudyData) -> Ends:
    """How the runs of a study ended."""
    frame = data.frame
    asked = frame["epochs_asked"].notna() & frame["epochs_done"].notna()
    short = asked & (frame["epochs_done"].fillna(0) < frame["epochs_asked"].fillna(0))
    complete, pruned = data.complete, frame[frame["state"] == "pruned"]
    stopped = complete[short[complete.index]]
    last = _last_reports(data)
    found = Ends(
        stopped=_cuts(stopped, stopped["epochs_done"]),
        pruned=_cuts(pruned, pruned["epochs_done"].fillna(last["step"].reindex(pruned.index))),
        whole=int((asked & ~short)[complete.index].sum()),
        improving=int(last["best"].reindex(pruned.index).fillna(0).sum()),
    )
    return found if found.pruned.median is None else _judged(data, found, pruned, last)


def _cuts(rows: pd.DataFrame, epochs: pd.Series[int]) -> Cuts:
    known = [float(epoch) for epoch in epochs.tolist() if finite(epoch) is not None]
    if not known:
        return Cuts(len(rows))
    first, median, third = (float(entry) for entry in np.quantile(known, [0.25, 0.5, 0.75]))
    asked = [finite(entry) for entry in cells(rows, "epochs_asked")]
    done = [finite(entry) for entry in cells(rows, "epochs_done")]
    saved = [a - d for a, d in zip(asked, done, strict=True) if a is not None and d is not None]
    return Cuts(len(rows), first, median, third, int(sum(saved)) if saved else None)


def _last_reports(data: StudyData) -> pd.DataFrame:
    """Of each trial that reported: its last step, and whether the value there is its best (with a report before it)."""
    reports = data.records.reports
    values = reports["value"] if data.maximize else -reports["value"]
    by_trial = values.groupby(reports["trial"])
    last = ~reports["trial"].duplicated(keep="last")
    best = by_trial.max().reindex(reports["trial"][last])
    several = by_trial.size().reindex(reports["trial"][last]) > 1
    improving = (values[last].to_numpy() >= best.to_numpy()) & several.to_numpy()
    return pd.DataFrame({"step": reports["step"][last].to_numpy(), "best": improving.astype(float)}, index=best.index)


def _judged(data: StudyData, found: Ends, pruned: pd.DataFrame, last: pd.DataFrame) -> Ends:
    """With what the complete trials tell of the epoch at which others were pruned."""
    reports, sign = data.records.reports, 1.0 if data.maximize else -1.0
    reported = last["step"].reindex(pruned.index).dropna()
    at = round(found.pruned.median or 0) if reported.empty else int(reported.quantile(0.5, interpolation="lower"))
    there = reports[reports["step"] == at].drop_duplicates("trial").set_index("trial")["value"] * sign
    final = data.complete["value"] * sign
    both = there.reindex(final.index).dropna()
    final = final.reindex(both.index)
    cut = there.reindex(pruned.index).dropna()
    if len(both) < FEWEST or cut.empty or final.nunique() < 2 or both.nunique() < 2:
        return replace(found, at=at)
    low = both <= cut.median()
    late = final[low] >= final.quantile(0.75)
    agreement = float(np.corrcoef(both.rank(), final.rank())[0, 1])
    most = largest_correlation(agreement, len(both))
    return replace(found, at=at, agreement=agreement, agreement_most=most, late=int(late.sum()), low=int(low.sum()))


def largest_correlation(found: float, trials: int) -> float:
    """The upper 95 % bound of a rank correlation (-1 to 1) found in so many trials, by Fisher's z transform.

    Its variance is 1.06 / (n - 3). Source: E. C. Fieller, H. O. Hartley, E. S. Pearson, Tests for Rank Correlation
    Coefficients I, Biometrika 44 (1957).
    """
    return math.tanh(math.atanh(min(max(found, -0.999), 0.999)) + ONE_SIDED * math.sqrt(1.06 / (trials - 3)))
