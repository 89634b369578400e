"""Pruners by name, with their keyword options checked."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
)
from optuna.trial import TrialState

from tuner.errors import SearchSpaceError, UsageError, did_you_mean
from tuner.proposing.options import check_options

CLASSES: dict[str, type[BasePruner]] = {
    "none": NopPruner,
    "median": MedianPruner,
    "percentile": PercentilePruner,
    "hyperband": HyperbandPruner,
    "asha": SuccessiveHalvingPruner,
    "patient": PatientPruner,
    "threshold": ThresholdPruner,
}

DEFAULTS: dict[str, dict[str, Any]] = {
    "percentile": {"percentile": 25.0},
    "asha": {"min_resource": 1},
    "patient": {"wrapped_pruner": "median", "patience": 3},
}
"""Options used unless given. An epoch is one unit of resource."""


def check_pruner(name: str, options: Mapping[str, Any], place: str, unknown_epochs: bool = False) -> None:
    """Raise `SearchSpaceError` for options that the pruner does not take or refuses.

    `unknown_epochs` says that the trials are of an objective function.
    """
    wrapped = options.get("wrapped_pruner")
    place = f"{place}.pruner_kwargs"
    check_options(CLASSES[name], {**DEFAULTS.get(name, {}), **options}, place, {})
    for option, least in (("reduction_factor", 2), ("min_resource", 1)):
        if isinstance(options.get(option), int) and options[option] < least:
            raise SearchSpaceError(f"must be at least {least}", place=f"{place}.{option}", value=options[option])
    for option in ("min_resource", "max_resource"):
        if options.get(option) == "auto":
            hint = "What the first trials tell of it, a resumed search would be told otherwise"
            raise SearchSpaceError("must be a number", place=f"{place}.{option}", value="auto", hint=hint)
    if wrapped == "hyperband" and unknown_epochs:
        rule = "hyperband must know the number of steps, and nothing is known of an objective function's"
        raise SearchSpaceError(rule, place=f"{place}.wrapped_pruner", value=wrapped)
    if wrapped is not None and (wrapped not in CLASSES or wrapped == "patient"):
        hint = did_you_mean(wrapped, [entry for entry in CLASSES if entry != "patient"])
        raise SearchSpaceError(f"there is no pruner '{wrapped}' to wrap", place=f"{place}.wrapped_pruner", hint=hint)
    try:
        build_pruner(name, options, most_epochs=1)
    except (ValueError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise SearchSpaceError(f"{name}: {error}", place=place, value=dict(options)) from error


def build_pruner(name: str, options: Mapping[str, Any], most_epochs: int | None) -> BasePruner:
    """The pruner; `most_epochs` is the most that any recipe of the space asks for, hyperband's `max_resource`;
    None for an objective function, whose steps are its own: then everything is as in Optuna, except that hyperband
    prunes nothing until it is given `max_resource` (see `longest`).

    Epochs count from 1 while Optuna counts steps from 0, so its `n_warmup_steps` is one more than ours: that many
    first epochs are never pruned.
    `patient` wraps the pruner that its option `wrapped_pruner` names (null: none), with that pruner's defaults.
    """
    given = {**DEFAULTS.get(name, {}), **options}
    if name == "hyperband" and most_epochs is None and "max_resource" not in given:
        return NopPruner()
    if name == "hyperband" and most_epochs is not None:
        given = {"max_resource": most_epochs, **given}
    if name in ("median", "percentile", "threshold") and most_epochs is not None:
        given["n_warmup_steps"] = given.get("n_warmup_steps", 0) + 1
    if name == "patient":
        wrapped = given.pop("wrapped_pruner")
        given["wrapped_pruner"] = None if wrapped is None else build_pruner(wrapped, {}, most_epochs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        entry: Any = CLASSES[name]
        return entry(**given)  # type: ignore[no-any-return]


def longest(study: optuna.Study) -> int | None:
    """The steps that the longest complete trial reported, hyperband's `max_resource` for an objective function.

    Optuna would take it from the trials that are complete when a process asks first; asked for after each trial and
    kept with the study, it is the same for one that resumes.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    steps = [trial.last_step for trial in complete if trial.last_step is not None]
    return max(steps) + 1 if steps else None
