"""Draft: an Optuna trial of which nothing is written until it is wanted."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage


class _Withheld:
    """A storage that keeps back what a sampler writes on a trial, and passes everything else on."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        self.parameters: list[tuple[int, str, float, BaseDistribution]] = []
        self.attributes: list[tuple[int, str, Any]] = []

    def set_trial_param(self, trial_id: int, name: str, value: float, distribution: BaseDistribution) -> None:
        self.parameters.append((trial_id, name, value, distribution))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        # What stands in for parameters that are not yet written is not needed: they are written with the rest.
        if ":relative_params" not in key:
            self.attributes.append((trial_id, key, value))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


class Draft(optuna.trial.Trial):
    """A trial to suggest from that can be thrown away and asked again.

    `told` gives values to suggest instead of sampled ones, as Optuna stores them.
    """

    def __init__(self, study: optuna.Study, trial_id: int, told: Mapping[str, Any] | None = None) -> None:
        self._withheld = _Withheld(study._storage)
        view: Any = copy.copy(study)
        view._storage = self._withheld
        super().__init__(view, trial_id)
        if told is not None:
            self._fixed_params = dict(told)

    def keep_attributes(self) -> None:
        """Write what the sampler noted on the trial (CMA-ES: its state)."""
        for attribute in self._withheld.attributes:
            self._withheld._storage.set_trial_system_attr(*attribute)

    def keep_parameters(self) -> None:
        """Write the suggested parameters."""
        for parameter in self._withheld.parameters:
            self._withheld._storage.set_trial_param(*parameter)
