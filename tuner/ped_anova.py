"""PED-ANOVA, Optuna's, of complete trials: what sets the best of them apart.

It stands by itself, since it is worked out in a process of its own (see aside.py), which should not import more.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

USUAL_TOP = 30
"""The top has a tenth of the trials, but at least so many, or half of them where that is fewer.

Optuna's own default, a tenth, leaves too few trials in a study of 60 to tell their likeness from chance: where one of
three categories is bad (see tests/analysis/truths.py), the sixth puts that parameter first in 45 % of the studies, the
third in 83 %, and the half in 97 %.
"""

RESAMPLES = 100
"""How often trials are drawn anew for an interval."""

MOST_RESAMPLED = 500
"""Of more complete trials, so many are drawn each time, which makes the intervals wider, never narrower."""

EPOCH = datetime(2000, 1, 1)
"""When trials began whose times do not matter."""

CONFIDENCE = 0.9
"""The share of the resamples within an interval."""


@dataclass(frozen=True)
class Question:
    """What PED-ANOVA is asked: the values and active parameters of complete trials; are intervals wanted, too?"""

    maximize: bool
    values: list[float]
    parameters: list[dict[str, Any]]
    distributions: dict[str, BaseDistribution]
    intervals: bool = False


@dataclass(frozen=True)
class Answer:
    """Shares and intervals by parameter, or the reason why there are none."""

    shares: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    reason: str | None = None


def ped_anova(question: Question) -> Answer:
    """Optuna's importances of the parameters for reaching the top trials."""
    trials = _trials(question)
    try:
        with _quietly():
            shares = _ped_anova(question.maximize, trials)
            return Answer(shares, _intervals(question.maximize, trials, [*shares]) if question.intervals else {})
    except Exception as error:  # the other tables stand without it, whatever Optuna cannot do
        return Answer(reason=f"Optuna cannot tell: {error or type(error).__name__}")


def target_quantile(complete: int) -> float:
    """The share of `complete` trials that are the top; see `USUAL_TOP`."""
    asked = max(complete / 10, min(USUAL_TOP, complete / 2))
    return (math.ceil(asked) - 0.5) / complete  # half a trial less, so that rounding up gives the number meant


def _trials(question: Question) -> list[FrozenTrial]:
    """The trials as Optuna's evaluators take them."""
    found = []
    for place, (value, params) in enumerate(zip(question.values, question.parameters, strict=True)):
        found.append(_frozen(place, value, params, {name: question.distributions[name] for name in params}))
    return found


def _frozen(number: int, value: float, params: dict[str, object], kinds: dict[str, BaseDistribution]) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=TrialState.COMPLETE,
        value=value,
        datetime_start=EPOCH,
        datetime_complete=EPOCH,
        params=params,
        distributions=kinds,
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=number,
    )


class _Given(optuna.storages.InMemoryStorage):
    """Holds complete trials as they are, without copying and checking each of them."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._given = list(trials)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return list(self._given)


def _ped_anova(maximize: bool, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    study = optuna.create_study(storage=_Given(trials), direction="maximize" if maximize else "minimize")
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=target_quantile(len(trials)))
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _intervals(maximize: bool, trials: Sequence[FrozenTrial], names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap: B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13."""
    random = np.random.default_rng(0)
    size = min(len(trials), MOST_RESAMPLED)
    found = []
    for _ in range(RESAMPLES):
        drawn = [trials[place] for place in random.integers(len(trials), size=size)]
        resampled = [_frozen(i, float(t.value or 0.0), t.params, dict(t.distributions)) for i, t in enumerate(drawn)]
        shares = _ped_anova(maximize, resampled)
        found.append([shares.get(name, 0.0) for name in names])
    ends = np.quantile(np.array(found), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return {name: (float(ends[0, i]), float(ends[1, i])) for i, name in enumerate(names)}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without Optuna's warnings of rare conditions and its line about the study in memory."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
