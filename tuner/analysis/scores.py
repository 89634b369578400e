"""Every ended trial's standing among the others as one number, those that were cut short among them.

The means of complete trials alone flatter a setting most of whose trials were pruned. So all are ranked. That a trial
is complete says little by itself: those that a pruner begins with, or that were taken over from an earlier study, were
compared with nothing. So a pruned trial takes its place among the complete ones by how many of them stood no better at
the step of its cut; where there are none to compare it with, it has the worst rank. Trials that diverged or failed have
no rank: what makes trials diverge is looked for by itself (see divergence.py), lest all else seem to be of no influence
beside it.

Source of the worst ranks: J. M. Lachin, Worst-Rank Score Analysis with Informatively Missing Observations in Clinical
Trials, Controlled Clinical Trials 20 (1999).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tuner.analysis.data import StudyData


def scores(data: StudyData) -> pd.Series[float]:
    """The normal score of each trial that completed or was pruned, by its number; higher is better.

    The k-th worst of n has the k/(n+1) quantile of the normal distribution; equal ones share the middle rank.
    """
    frame = data.frame
    complete = frame["value"][frame["state"] == "complete"]
    places = (complete if data.maximize else -complete).rank()
    pruned = frame.index[frame["state"] == "pruned"]
    if len(pruned):
        places = pd.concat([places, _places_when_cut(data, complete.index, pruned)]).sort_index()
    return normal_scores(places)


def normal_scores(values: pd.Series[float]) -> pd.Series[float]:
    """Each value's rank as a quantile of the normal distribution; equal values share the middle rank."""
    from scipy.special import ndtri

    ranks = values.rank()
    return pd.Series(ndtri((ranks / (len(ranks) + 1)).to_numpy()), index=values.index)


def _places_when_cut(data: StudyData, complete: pd.Index[int], pruned: pd.Index[int]) -> pd.Series[float]:
    """The places of pruned trials among the complete ones, whose own are 1, the worst, to their number.

    A trial that stood no worse than k of the n complete ones that reported the step it was cut at lies in the k-th of
    the n + 1 gaps between them, which begins at the k (c + 1) / (n + 1)-th of the gaps between all c. To that is added
    half of its standing, so that trials in one gap are in order and below the complete trial above them.
    """
    reports = data.records.reports
    values = (1.0 if data.maximize else -1.0) * reports["value"].astype(float)
    values = values.fillna(-np.inf)
    reports = reports.assign(value=values, standing=values.groupby(reports["step"]).rank(pct=True)).sort_values("value")
    others = reports[reports["trial"].isin(complete)]
    others = others.assign(below=others.groupby("step").cumcount() + 1)[["step", "value", "below"]]
    last = reports["step"] == reports["trial"].map(reports.groupby("trial")["step"].max())
    cuts = pd.merge_asof(reports[last & reports["trial"].isin(pruned)], others, on="value", by="step")
    compared = cuts["step"].map(others["step"].value_counts()).fillna(0)
    places = cuts["below"].fillna(0) * (len(complete) + 1) / (compared + 1) + cuts["standing"] / 2
    return pd.Series(places.to_numpy(), index=cuts["trial"].to_numpy(), dtype=float).reindex(pruned, fill_value=0.0)
