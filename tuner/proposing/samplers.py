"""Samplers by name, with their keyword options checked. A new one is built for every ask (see `proposal.py`)."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    PartialFixedSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial

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


def draws_alone(name: str) -> bool:
    """Whether what a sampler draws depends on the trial's number alone."""
    return name in ("random", "qmc")


def learns(name: str) -> bool:
    """Whether what a sampler draws depends on the results of earlier trials."""
    return name in ("tpe", "gp", "cmaes")


def takes_values(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a sampler that learns can be given some of the values: CMA-ES with margin counts on its own draws."""
    return learns(name) and not options.get("with_margin")


def startup_trials(name: str, options: Mapping[str, Any]) -> int:
    """So many trials are complete or pruned before a sampler that learns takes account of them."""
    default = inspect.signature(CLASSES[name]).parameters["n_startup_trials"].default
    return int(options.get("n_startup_trials", default))


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

    Trial 0 is the default recipe, so trial 1 takes the sequence's first point. `over` says what the sequence is over;
    left out, it is over what the first trial was asked for that has ended, as Optuna's is.
    """

    def __init__(self, number: int, **options: Any) -> None:
        super().__init__(**options)
        self._number = number
        self.over: Mapping[str, BaseDistribution] | None = None

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        return max(0, self._number - 1)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See `BaseSampler`."""
        if self.over is None:
            return super().infer_relative_search_space(study, trial)
        return dict(self.over) if self._number else {}


class FixingSampler(PartialFixedSampler):
    """A sampler of which some values are given: those that make a group's shape.

    TPE and the Gaussian process choose the others as if the given ones were not searched. CMA-ES needs all its
    parameters every time, so it draws those too, and the given ones take their place.
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See `BaseSampler`."""
        if isinstance(self._base_sampler, CmaEsSampler):
            return self._base_sampler.infer_relative_search_space(study, trial)
        return super().infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `BaseSampler`."""
        drawn = super().sample_relative(study, trial, search_space)
        return {path: self._fixed_params.get(path, value) for path, value in drawn.items()}


def build_sampler(
    name: str,
    options: Mapping[str, Any],
    study_seed: int = 0,
    number: int = 0,
    attempt: int = 0,
    fixed: Mapping[str, Any] | None = None,
) -> BaseSampler:
    """The sampler for the ask of trial `number`, the `attempt`-th time; its draws depend on these alone.

    `fixed` values, as Optuna stores them, are given rather than drawn. `grid` draws nothing, so any sampler serves it.
    """
    seed = seed_for("ask", study_seed, number, attempt) % 2**32
    given = {**DEFAULTS.get(name, {}), **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "qmc":
            sequence = seed_for("qmc", study_seed, attempt) % 2**32
            return NumberedQMCSampler(number, **given, seed=sequence, independent_sampler=RandomSampler(seed=seed))
        entry: Any = CLASSES.get(name, RandomSampler)
        sampler: BaseSampler = entry(**given, seed=seed)
        return FixingSampler(dict(fixed), sampler) if fixed else sampler
