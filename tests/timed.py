"""Studies whose trials have the times, values and states that a test gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from tuner.analysis import StudyData
from tuner.storage.reading import records_of

MIDNIGHT = datetime(2030, 1, 1)


@dataclass(frozen=True)
class Told:
    """A trial: its value (None: pruned), the seconds after midnight from start to end, parameters, attributes."""

    value: float | None
    start: float
    end: float
    params: Mapping[str, Any] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)


def study_of(name: str, trials: Sequence[Told], maximize: bool = True, **attrs: Any) -> StudyData:
    """A study of these trials, with these attributes of its own."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name=name, direction="maximize" if maximize else "minimize")
    for key, value in attrs.items():
        study.set_user_attr(key, value)
    choices = {key: sorted({t.params[key] for t in trials if key in t.params}) for t in trials for key in t.params}
    kinds = {key: CategoricalDistribution(values) for key, values in choices.items()}
    for number, told in enumerate(trials):
        study.add_trial(
            FrozenTrial(
                number=number,
                state=TrialState.PRUNED if told.value is None else TrialState.COMPLETE,
                value=told.value,
                datetime_start=MIDNIGHT + timedelta(seconds=told.start),
                datetime_complete=MIDNIGHT + timedelta(seconds=told.end),
                params=dict(told.params),
                distributions={key: kinds[key] for key in told.params},
                user_attrs=dict(told.attrs),
                system_attrs={},
                intermediate_values={},
                trial_id=number,
            )
        )
    return StudyData(records_of(study))


def in_turn(name: str, values: Sequence[float | None], seconds: float = 1.0, **more: Any) -> StudyData:
    """A study whose trials took `seconds` each, one after the other."""
    return study_of(
        name, [Told(value, n * seconds, (n + 1) * seconds, {"x": n}) for n, value in enumerate(values)], **more
    )
