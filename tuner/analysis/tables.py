"""A study -> how its trials ended, their values, the top ones, and the gain over the default recipe."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tuner.analysis.data import StudyData
from tuner.analysis.trials import COUNTED, STATES, cells, finite, is_missing, mean_of
from tuner.storage.studies import WARM_START

_EPOCH = re.compile(r" at epoch \d+")


@dataclass(frozen=True)
class Reason:
    """Why `trials` trials ended in `state`, without the epoch they did so."""

    state: str
    text: str
    trials: int


@dataclass(frozen=True)
class Counts:
    """How many trials are in each state, and why: the most frequent reason first.

    `earlier` says by state how many of them were taken over from an earlier study.
    """

    complete: int = 0
    pruned: int = 0
    diverged: int = 0
    failed: int = 0
    infeasible: int = 0
    duplicate: int = 0
    running: int = 0
    waiting: int = 0
    reasons: tuple[Reason, ...] = ()
    earlier: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All trials of the study."""
        return sum(getattr(self, state) for state in STATES)

    @property
    def counted(self) -> int:
        """The trials that count towards the budget."""
        return self.trained - sum(self.earlier.values())

    @property
    def trained(self) -> int:
        """The trials that were trained, here or in an earlier study."""
        return sum(getattr(self, state) for state in COUNTED)

    def here(self, state: str) -> int:
        """The trials in a state that were not taken over."""
        return int(getattr(self, state)) - self.earlier.get(state, 0)


@dataclass(frozen=True)
class TopTrial:
    """A complete trial; `parameters` holds its active searched parameters, epochs count from 1."""

    number: int
    value: float
    gap: float | None = None
    best_epoch: int | None = None
    epochs_done: int | None = None
    epochs_asked: int | None = None
    weights: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TopTrials:
    """The best complete trials, best first.

    `differing` names the parameters whose values differ among them; `shared` holds the others.
    """

    trials: tuple[TopTrial, ...] = ()
    differing: tuple[str, ...] = ()
    shared: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """The values of the `trials` complete trials; `deviation` is the sample standard deviation, None of one trial."""

    trials: int
    mean: float
    median: float
    deviation: float | None
    first_quartile: float
    third_quartile: float


@dataclass(frozen=True)
class Gain:
    """How much better than the default recipe's trial the best is, in the metric; positive is better.

    `value` and `gain` are None where the default recipe did not complete, which `state` tells.
    """

    trial: int
    state: str
    value: float | None
    gain: float | None


def count_trials(data: StudyData) -> Counts:
    """Trials by state, and by reason within each state.

    Every pruned, diverged, failed and infeasible trial has a reason, so that these add up to the counts;
    complete trials have one where they stopped early.
    """
    frame = data.frame
    states = Counter(cells(frame, "state"))
    reasons = Counter(
        (state, text)
        for state, reason, constraint in zip(
            cells(frame, "state"), cells(frame, "reason"), cells(frame, "infeasible"), strict=True
        )
        if (text := _reason(state, reason, constraint)) is not None
    )
    ranked = sorted(reasons.items(), key=lambda entry: (-entry[1], STATES.index(entry[0][0]), entry[0][1]))
    return Counts(
        **{state: states[state] for state in STATES},
        reasons=tuple(Reason(state, text, trials) for (state, text), trials in ranked),
        earlier=dict(Counter(cells(frame[frame[WARM_START].notna()], "state"))),
    )


def _reason(state: str, reason: str | None, constraint: str | None) -> str | None:
    """A trial's reason as it is grouped: its first line, without the epoch."""
    if state in ("duplicate", "running", "waiting"):
        return None
    if reason is None and constraint is not None:
        reason = f"infeasible: {constraint}"
    lines = (reason or "").strip().splitlines()
    if not lines:
        return None if state == "complete" else f"{state} without a reason"
    return _EPOCH.sub("", lines[0])


def top_trials(data: StudyData, n: int) -> TopTrials:
    """The `n` best complete trials; of equal ones, the earlier first.

    Duplicates and trials whose value is not finite are left out.
    """
    complete, columns = data.complete, data.columns
    ranked = complete.sort_values(["value", "number"], ascending=[not data.maximize, True]).head(max(n, 0))
    names = [str(name) for name in ranked.columns]
    # column by column: as records, pandas would turn what is missing into None, which is a value
    rows = [dict(zip(names, row, strict=True)) for row in zip(*(cells(ranked, name) for name in names), strict=True)]
    best = tuple(_top_trial(row, columns) for row in rows)
    differing = tuple(name for name in columns if len({_key(trial, name) for trial in best}) > 1)
    shared = {} if not best else {k: v for k, v in best[0].parameters.items() if k not in differing}
    return TopTrials(best, differing, shared)


def _top_trial(row: dict[str, Any], columns: dict[str, str]) -> TopTrial:
    return TopTrial(
        number=int(row["number"]),
        value=float(row["value"]),
        gap=finite(row["gap"]),
        best_epoch=_count(row["best_epoch"]),
        epochs_done=_count(row["epochs_done"]),
        epochs_asked=_count(row["epochs_asked"]),
        weights=row["weights"],
        parameters={name: row[column] for name, column in columns.items() if not is_missing(row[column])},
    )


def _count(value: object) -> int | None:
    number = finite(value)
    return None if number is None else int(number)


def _key(trial: TopTrial, parameter: str) -> str:
    """Tells a parameter's values apart; an inactive one is unlike any value, and a list has no hash."""
    return repr(trial.parameters[parameter]) if parameter in trial.parameters else ""


def spread_of(data: StudyData) -> Spread | None:
    """Mean, median, deviation and quartiles of the complete trials' values; None without any.

    Trials that were taken over from another study are left out, unless there are no others.
    """
    own = data.complete[data.complete["counted"]]
    values = [float(value) for value in cells(own if len(own) else data.complete, "value")]
    if not values:
        return None
    quartiles = [values[0]] * 3 if len(values) == 1 else statistics.quantiles(values, n=4, method="inclusive")
    deviation = statistics.stdev(values) if len(values) > 1 else None
    mean, median = mean_of(values), statistics.median(values)
    return Spread(len(values), mean, median, deviation, quartiles[0], quartiles[2])


def gain_over_default(data: StudyData, best: float | None) -> Gain | None:
    """The best value against the default recipe's; None where the default recipe was no trial."""
    told = [str(entry or "").startswith("default recipe") for entry in cells(data.frame, "enqueued")]
    for row in data.rows(told)[["number", "state", "value"]].to_dict("records"):
        value = finite(row["value"]) if row["state"] == "complete" else None
        gain = None if value is None or best is None else (best - value if data.maximize else value - best)
        return Gain(int(row["number"]), str(row["state"]), value, gain)
    return None
