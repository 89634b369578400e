"""Draft: an Optuna trial whose suggestions are written only once they are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage


class _Withheld:
    """A storage that keeps new parameters back and passes everything else on."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage
        self._parameters: list[tuple[int, str, float, BaseDistribution]] = []

    def set_trial_param(self, trial_id: int, name: str, value: float, distribution: BaseDistribution) -> None:
        self._parameters.append((trial_id, name, value, distribution))

    def write(self) -> None:
        for parameter in self._parameters:
            self._storage.set_trial_param(*parameter)
        self._parameters.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


class Draft(optuna.trial.Trial):
    """A trial to suggest from that can be thrown away and asked again, since nothing is written until `keep`.

    `told` gives values to suggest instead of sampled ones, as Optuna stores them.
    """

    def __init__(self, study: optuna.Study, trial_id: int, told: Mapping[str, Any] | None = None) -> None:
        super().__init__(study, trial_id)
        self._withheld = _Withheld(self.storage)
        self.storage: Any = self._withheld
        if told is not None:
            self._fixed_params = dict(told)

    def keep(self) -> None:
        """Write the suggested parameters."""
        self._withheld.write()
