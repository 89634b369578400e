"""A stored study -> tables: how its trials ended, the top ones, what mattered, overfitting.

    optuna.Study --trials_frame--> one row a trial --top_trials, impact, gap_table, ...--> Analysis

Reads ordinary Optuna studies, those of plain objectives too, and never imports torch (contract C9).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.study import StudyDirection

from tuner.analysis.expectation import Finding, Standing, best_epoch_of, study_standing
from tuner.analysis.groups import Comparison, GroupLevel, Groups, PhaseMeans, group_by
from tuner.analysis.importance import Impact, Level, ParameterImpact, impact
from tuner.analysis.significance import LevelMean, Tested
from tuner.analysis.tables import (
    Above,
    Counts,
    Gain,
    Gap,
    Reason,
    TopTrial,
    TopTrials,
    count_trials,
    gain_over_default,
    gap_table,
    top_trials,
)
from tuner.analysis.trials import cells, finite, trials_frame
from tuner.storage.epochs import EpochRows

__all__ = [
    "Above",
    "Analysis",
    "Comparison",
    "Counts",
    "Finding",
    "Gain",
    "Gap",
    "GroupLevel",
    "Groups",
    "Impact",
    "Level",
    "LevelMean",
    "ParameterImpact",
    "PhaseMeans",
    "Reason",
    "Standing",
    "Tested",
    "TopTrial",
    "TopTrials",
    "analyze",
    "count_trials",
    "gain_over_default",
    "gap_table",
    "group_by",
    "impact",
    "top_trials",
    "trials_frame",
]


@dataclass(frozen=True)
class Analysis:
    """All that is known of a study; `task`, `mode` are None for studies that tuner did not make.

    `value` tells whether a trial's value is its best epoch's or the last one's; `best` is None without a
    complete trial; `gap` is None where no trial has one, `gain` where no trial is the default recipe.
    `total_seconds` and `seconds_per_trial` are training time; `budget` is as stored, over all runs. `expect` is None
    where the study expects nothing, `groups` where no comparison was asked for; `recorded` is everything recorded at
    the best trial's best epoch.
    """

    name: str
    task: str | None
    mode: str | None
    metric: str
    direction: str
    value: str | None
    counts: Counts
    best: TopTrial | None
    top: TopTrials
    impact: Impact
    gap: Gap | None
    gain: Gain | None
    budget: dict[str, Any]
    total_seconds: float | None
    seconds_per_trial: float | None
    expect: Standing | None = None
    recorded: dict[str, float | None] = field(default_factory=dict)
    groups: Groups | None = None


def analyze(
    study: optuna.Study,
    top: int = 5,
    epochs: EpochRows | None = None,
    files: Path | None = None,
    by: str | None = None,
) -> Analysis:
    """Analyze a study; `top` is how many trials to list, `by` a searched parameter whose levels to compare.

    `epochs` and `files`, the epoch rows and the folder of a study of tuner, add what Optuna does not know: how the
    best epoch compares with what is expected, final metrics, and the steadiness of the runs.
    Works on a study of any length, also while it is running. Raises `UsageError` for a study with several
    objectives, and for a `by` that was not searched.
    """
    frame = trials_frame(study)
    maximize = study.direction == StudyDirection.MAXIMIZE
    space, budget = study.user_attrs.get("space"), study.user_attrs.get("budget")
    said = space if isinstance(space, Mapping) else {}
    first = top_trials(frame, 1, maximize).trials
    total, mean = _seconds(frame)
    return Analysis(
        name=study.study_name,
        task=said.get("task"),
        mode=said.get("mode"),
        metric=said.get("metric") or "value",
        direction="maximize" if maximize else "minimize",
        value=said.get("value"),
        counts=count_trials(frame),
        best=first[0] if first else None,
        top=top_trials(frame, top, maximize),
        impact=impact(study, frame),
        gap=gap_table(frame),
        gain=gain_over_default(frame, first[0].value if first else None, maximize),
        budget=dict(budget) if isinstance(budget, Mapping) else {},
        total_seconds=total,
        seconds_per_trial=mean,
        expect=study_standing(study, first[0] if first else None, epochs, maximize),
        recorded=best_epoch_of(study, first[0], epochs) if first else {},
        groups=None if by is None else group_by(study, frame, by, epochs, files),
    )


def _seconds(frame: pd.DataFrame) -> tuple[float | None, float | None]:
    """Training time of the counted trials: all together, and the mean of one."""
    spent = [s for s in map(finite, cells(frame[frame["counted"]], "seconds")) if s is not None]
    return (sum(spent), sum(spent) / len(spent)) if spent else (None, None)
