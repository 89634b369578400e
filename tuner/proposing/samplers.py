"""Samplers by name, with their keyword options checked. A new one is built for every ask (see `proposal.py`)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler

from tuner.errors import SearchSpaceError, UsageError
from tuner.registry import check_arguments

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
    "seed": "the study's seed",
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
    check_arguments(CLASSES[name], options, place, RESERVED)
    try:
        build_sampler(name, options, seed=0)
    except (ValueError, TypeError, ImportError) as error:
        if isinstance(error, UsageError):
            raise
        raise SearchSpaceError(f"{name}: {error}", place=place, value=dict(options)) from error


def build_sampler(name: str, options: Mapping[str, Any], seed: int) -> BaseSampler:
    """The sampler, seeded; `grid` draws nothing, so any sampler serves it. `seed` in [0, 2**63)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        entry: Any = CLASSES.get(name, RandomSampler)
        return entry(**{**DEFAULTS.get(name, {}), **options, "seed": seed % 2**32})  # type: ignore[no-any-return]
