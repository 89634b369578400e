"""Studies to make pages of: ordinary, odd and large ones."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from tuner.analysis import StudyData
from tuner.storage.reading import records_of
from tuner.storage.records import Records

EVIL = "<script>injected=1</script>"
"""A name that must be shown as it is."""

START = pd.Timestamp("2026-03-01 12:00")


def ordinary(trials: int = 40, names: Mapping[str, str] | None = None, maximize: bool = True) -> StudyData:
    """Trials in every state, with reports, losses and gradient norms; `names` puts others in place of the parameters'.

    The best learning rate is near 3e-3; above 3e-2 trials diverge.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    named = {"learning_rate": "learning_rate", "optimizer": "optimizer", "layers": "layers"} | dict(names or {})
    kinds: dict[str, BaseDistribution] = {
        named["learning_rate"]: FloatDistribution(1e-5, 1e-1, log=True),
        named["optimizer"]: CategoricalDistribution(["Adam", "SGD", named.get("category", "AdamW")]),
        named["layers"]: IntDistribution(1, 6),
    }
    study = optuna.create_study(
        direction="maximize" if maximize else "minimize", study_name=named.get("study", "tried")
    )
    search = {name: {} for name in kinds}
    metric = named.get("metric", "val_accuracy")
    study.set_user_attr("space", {"task": "digits", "mode": "full", "metric": metric, "search": search})
    draw = random.Random(0)
    for number in range(trials):
        params = {
            named["learning_rate"]: 10 ** draw.uniform(-5, -1),
            named["optimizer"]: draw.choice(list(kinds[named["optimizer"]].choices)),  # type: ignore[attr-defined]
            named["layers"]: draw.randrange(1, 7),
        }
        study.add_trial(_ordinary_trial(number, params, kinds, named, draw, maximize))
    records = records_of(study)
    begun = pd.DatetimeIndex([START + pd.Timedelta(seconds=10 * number) for number in range(trials)])
    return StudyData(
        dataclasses.replace(
            records, started=begun, completed=begun + pd.Timedelta(seconds=25), epochs=_epochs(records, draw)
        )
    )


def _ordinary_trial(
    number: int,
    params: dict[str, Any],
    kinds: dict[str, BaseDistribution],
    named: dict[str, str],
    draw: random.Random,
    maximize: bool,
) -> optuna.trial.FrozenTrial:
    rate = params[named["learning_rate"]]
    value = 0.98 - 0.05 * abs(math.log10(rate) + 2.5) + draw.gauss(0, 0.004)
    reports = {epoch: value - 0.5 / epoch for epoch in range(1, 11)}
    state, notes = TrialState.COMPLETE, {"gap": draw.gauss(0.02, 0.01), "epochs_done": 10, "epochs_asked": 10}
    if rate > 3e-2:
        state, notes = TrialState.PRUNED, {"diverged": True, "reason": "diverged at epoch 3"}
        reports = {1: 0.4, 2: 0.3, 3: math.nan}
    elif number % 11 == 5:
        state, notes = TrialState.FAIL, {"reason": "ValueError: no"}
        reports = {}
    elif value < 0.9:
        state, notes = TrialState.PRUNED, {"reason": "pruned by the pruner", "epochs_done": 4}
        reports = {epoch: reports[epoch] for epoch in range(1, 5)}
    return create_trial(
        state=state,
        value=(value if maximize else -value) if state == TrialState.COMPLETE else None,
        params=params,
        distributions=kinds,
        intermediate_values=reports,
        user_attrs={"seconds": 20.0, **notes},
    )


def _epochs(records: Records, draw: random.Random) -> pd.DataFrame:
    rows = [
        {"trial": trial, "epoch": step, "train_loss": 1 / step, "val_loss": 1.1 / step, "learning_rate": 1e-3}
        | {"gradient_norm": draw.uniform(0.1, 3.0), "seconds": 1.0}
        for trial, step in zip(records.reports["trial"].tolist(), records.reports["step"].tolist(), strict=True)
    ]
    return pd.DataFrame(rows)


def plain(values: list[float | None], fail: bool = False, **parameters: list[Any]) -> StudyData:
    """A plain objective's trials, complete with these values; None, or `fail`, for trials that failed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name="plain")
    for place, value in enumerate(values):
        params = {name: column[place] for name, column in parameters.items()}
        kinds = {name: FloatDistribution(0.0, 1.0) for name in params}
        state = TrialState.FAIL if fail or value is None else TrialState.COMPLETE
        given = None if state == TrialState.FAIL else value
        study.add_trial(create_trial(state=state, value=given, params=params, distributions=kinds))
    return StudyData(records_of(study))


def large(
    trials: int, parameters: int, reports: int, categories: int = 0, state: str = "COMPLETE", length: int = 12
) -> StudyData:
    """So many trials, all alike but for random numbers; `categories` parameters of 300 long-named choices each."""
    draw = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {f"model.number_{i}": draw.random(trials).tolist() for i in range(parameters)}
    kinds: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in columns}
    for place in range(categories):
        choices = [f"{choice}-{'x' * length}" for choice in range(300)]
        columns[f"model.choice_{place}"] = [choices[i] for i in draw.integers(300, size=trials)]
        kinds[f"model.choice_{place}"] = CategoricalDistribution(choices)
    numbers = np.repeat(np.arange(trials), reports)
    begun = pd.DatetimeIndex(START + pd.to_timedelta(np.arange(trials), unit="s"))
    diverged = [True if number % 7 == 3 else None for number in range(trials)]
    values = np.where([bool(entry) for entry in diverged], np.nan, draw.random(trials))
    return StudyData(
        Records(
            name="large",
            directions=("MINIMIZE",),
            attributes={},
            states=["PRUNED" if entry else state for entry in diverged],
            values=values,
            started=begun,
            completed=begun + pd.Timedelta(seconds=9),
            notes={"diverged": diverged, "gap": draw.random(trials).tolist()},
            parameters=columns,
            distributions=kinds,
            reports=pd.DataFrame(
                {"trial": numbers, "step": np.tile(np.arange(reports), trials), "value": draw.random(len(numbers))}
            ),
            epochs=pd.DataFrame(columns=["trial", "epoch", "train_loss", "val_loss", "learning_rate", "gradient_norm"]),
        )
    )
