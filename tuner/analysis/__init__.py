"""A stored study -> tables, and what to do next.

    Records --StudyData--> frame of trials --> scores --> model of effects --> impact, interactions, ... --> advice

Reads ordinary Optuna studies, those of plain objectives too, and never imports torch (contract C9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from tuner.analysis.advice import Advice, Findings, advise
from tuner.analysis.confirmation import Confirmation, confirmation_beside
from tuner.analysis.data import StudyData
from tuner.analysis.divergence import TellingLevel, Threshold, out_of_memory
from tuner.analysis.effects import fitted
from tuner.analysis.ends import Cuts, Ends, ends_of
from tuner.analysis.expectation import Finding, Standing, best_epoch_of, study_standing
from tuner.analysis.factors import factors_of
from tuner.analysis.groups import Comparison, GroupLevel, Groups, group_by
from tuner.analysis.impact import Impact, ParameterImpact, impact
from tuner.analysis.importance import Ask, ask_importances, here
from tuner.analysis.interactions import Interaction, Interactions, interactions
from tuner.analysis.levels import Level, levels_by_parameter
from tuner.analysis.overfitting import GAP_THRESHOLDS, Gap, GapEffect, gap_of
from tuner.analysis.scores import scores
from tuner.analysis.significance import LevelMean, Tested
from tuner.analysis.stability import Stability, stability
from tuner.analysis.tables import (
    Counts,
    Gain,
    Spread,
    TopTrial,
    TopTrials,
    count_trials,
    gain_over_default,
    spread_of,
    top_trials,
)
from tuner.analysis.trials import cells, finite
from tuner.storage.reading import records_of
from tuner.storage.records import Records
from tuner.storage.studies import WARM_START

__all__ = [
    "GAP_THRESHOLDS",
    "Advice",
    "Analysis",
    "Comparison",
    "Confirmation",
    "Counts",
    "Cuts",
    "Ends",
    "Finding",
    "Gain",
    "Gap",
    "GapEffect",
    "GroupLevel",
    "Groups",
    "Impact",
    "Interaction",
    "Interactions",
    "Level",
    "LevelMean",
    "ParameterImpact",
    "Spread",
    "Stability",
    "Standing",
    "StudyData",
    "TellingLevel",
    "Tested",
    "Threshold",
    "TopTrial",
    "TopTrials",
    "analyze",
    "analyze_data",
    "confirmation_beside",
]

TOP = 5


@dataclass(frozen=True)
class Analysis:
    """All that is known of a study; `task`, `mode` are None for studies that tuner did not make.

    `value` tells whether a trial's value is its best epoch's or the last one's; `best` and `spread` are None without a
    complete trial; `gap` is None where no trial has one, `gain` where no trial is the default recipe.
    `total_seconds` and `seconds_per_trial` are training time; `budget` is as stored, over all runs. `expect` is None
    where the study expects nothing, `groups` where no comparison was asked for; `recorded` is everything recorded at
    the best trial's best epoch; `warm_start` names the earlier study that trials were taken over from;
    `confirmed` is what `tuner confirm` found of it, None where nothing is confirmed.
    """

    name: str
    task: str | None
    mode: str | None
    metric: str
    direction: str
    value: str | None
    counts: Counts
    best: TopTrial | None
    spread: Spread | None
    top: TopTrials
    impact: Impact
    interactions: Interactions
    gap: Gap | None
    stability: Stability
    ends: Ends
    advice: tuple[Advice, ...]
    gain: Gain | None
    budget: dict[str, Any]
    total_seconds: float | None
    seconds_per_trial: float | None
    expect: Standing | None = None
    recorded: dict[str, float | None] = field(default_factory=dict)
    groups: Groups | None = None
    warm_start: str | None = None
    confirmed: Confirmation | None = None


def analyze(
    study: optuna.Study | Records,
    top: int = TOP,
    by: str | None = None,
    intervals: bool = False,
    gaps: Sequence[float] = GAP_THRESHOLDS,
    files: Path | None = None,
) -> Analysis:
    """Analyze a study, be it finished or running; `files` is its folder, where its per-step series lie.

    `top` is how many trials to list, `by` a searched parameter whose levels to compare, `gaps` the thresholds above
    which gaps are counted; `intervals` asks for those of the importances, which take seconds.
    Raises `UsageError` for a study with several objectives, and for a `by` that was not searched.
    """
    records = study if isinstance(study, Records) else records_of(study, files)
    return analyze_data(StudyData(records), top, by, intervals, gaps)


def analyze_data(
    data: StudyData,
    top: int = TOP,
    by: str | None = None,
    intervals: bool = False,
    gaps: Sequence[float] = GAP_THRESHOLDS,
    confirmed: Confirmation | None = None,
    ask: Ask = here,
) -> Analysis:
    """The same of data that are read already, with what `tuner confirm` found; `ask` works importances out aside."""
    asked = ask_importances(data, intervals, ask)
    found = _findings(data, gaps)
    levels = levels_by_parameter(data)
    told = asked()
    best = found.best
    start = data.records.attributes.get(WARM_START)
    budget = data.records.attributes.get("budget")
    total, mean = _seconds(data)
    return Analysis(
        name=data.name,
        task=data.space.get("task"),
        mode=data.space.get("mode"),
        metric=data.metric,
        direction="maximize" if data.maximize else "minimize",
        value=data.space.get("value"),
        counts=count_trials(data),
        best=best,
        spread=spread_of(data),
        top=top_trials(data, top),
        impact=impact(data, levels, found.model, told, found.stability.telling),
        interactions=interactions(data, found.model, told),
        gap=found.gap,
        stability=found.stability,
        ends=found.ends,
        advice=advise(found),
        gain=gain_over_default(data, None if best is None else best.value),
        budget=dict(budget) if isinstance(budget, Mapping) else {},
        total_seconds=total,
        seconds_per_trial=mean,
        expect=study_standing(data, best),
        recorded=best_epoch_of(data, best) if best else {},
        groups=None if by is None else group_by(data, by),
        confirmed=confirmed,
        warm_start=str(start["study"]) if isinstance(start, Mapping) and "study" in start else None,
    )


def _findings(data: StudyData, gaps: Sequence[float]) -> Findings:
    """What advice rests on."""
    told = scores(data)
    factors = factors_of(data.frame.loc[told.index], data.columns, data.records.distributions)
    top = top_trials(data, TOP).trials
    best = top[0] if top else None
    return Findings(
        data=data,
        scores=told,
        model=fitted(told, factors),
        best=best,
        top=top,
        gap=gap_of(data, None if best is None else best.number, gaps),
        ends=ends_of(data),
        stability=stability(data),
        memory=out_of_memory(data),
    )


def _seconds(data: StudyData) -> tuple[float | None, float | None]:
    """Training time of the counted trials: all together, and the mean of one."""
    spent = [s for s in map(finite, cells(data.counted, "seconds")) if s is not None]
    return (sum(spent), sum(spent) / len(spent)) if spent else (None, None)
