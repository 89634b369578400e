"""Samplers by name, with their keyword options checked. A new one is built for every ask (see `proposal.py`)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler

from tuner.errors import SearchSpaceError, UsageError
from tuner.proposing.options import check_options
from tuner.seeds import seed_for

CLASSES: dict[str, type[BaseSampler]] = {
    "random": RandomSampler,
    "tpe": TPESampler,
    "gp": GPSampler,
    "cmaes": CmaEsSampler,
    "qmc": QMCSampler,
}
"""Optuna's sampler by our name; `grid` is our own enumeration of cells."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "tpe": {"multivariate": True, "constant_liar": True},
    "gp": {"deterministic_objective": False, "warn_independent_sampling": False},
    "cmaes": {"warn_independent_sampling": False},
    "qmc": {"scramble": True, "warn_independent_sampling": False, "warn_asynchronous_seeding": False},
}
"""Options set explicitly, so that another Optuna version does not change them."""

RESERVED = {
    "seed": "the study's seed: study_seed, or --study-seed",
    "independent_sampler": "tuner",
    "constraints_func": "the search space's constraints",
    "gamma": "Optuna",
    "weights": "Optuna",
    "source_trials": "tuner",
}


def check_sampler(name: str, options: Mapping[str, Any], place: str) -> None:
    """Raise `SearchSpaceError` for options that the sampler does not take or refuses."""
    place = f"{place}.sampler_kwargs"
    if name == "grid":
        if options:
            first = next(iter(options))
            raise SearchSpaceError("the grid sampler has no options", place=f"{place}.{first}")
        return
    check_options(CLASSES[name], options, place, RESERVED)
    try:
        build_sampler(name, options)
    except (ValueError, TypeError, ImportError) as error:
        if isinstance(error, UsageError):
            raise
        raise SearchSpaceError(f"{name}: {error}", place=place, value=dict(options)) from error


class NumberedQMCSampler(QMCSampler):
    """QMC whose point follows from the trial's number, where Optuna's counts what it drew in the study.

    Trial 0 is the default recipe, so trial 1 takes the sequence's first point.
    """

    def __init__(self, number: int, **options: Any) -> None:
        super().__init__(**options)
        self._index = max(0, number - 1)

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._index


def build_sampler(
    name: str, options: Mapping[str, Any], study_seed: int = 0, number: int = 0, attempt: int = 0
) -> BaseSampler:
    """The sampler for the ask of trial `number`, the `attempt`-th time; its draws depend on these alone.

    `grid` draws nothing, so any sampler serves it.
    """
    seed = seed_for("ask", study_seed, number, attempt) % 2**32
    given = {**DEFAULTS.get(name, {}), **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "qmc":
            sequence = seed_for("qmc", study_seed, attempt) % 2**32
            return NumberedQMCSampler(number, **given, seed=sequence, independent_sampler=RandomSampler(seed=seed))
        entry: Any = CLASSES.get(name, RandomSampler)
        return entry(**given, seed=seed)  # type: ignore[no-any-return]
