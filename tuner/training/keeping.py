"""Which trials' weights are kept: the best, the best k, or all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tuner.errors import UsageError
from tuner.files import write_atomically
from tuner.search_space.yaml_file import dump_yaml
from tuner.training.weights import save_weights


@dataclass(frozen=True)
class Keep:
    """How many of the best trials keep their weights; None keeps all."""

    count: int | None = 1

    @classmethod
    def parse(cls, text: str) -> Keep:
        """`best`, `top-3` or `all`; `UsageError` for anything else."""
        match = re.fullmatch(r"top-([1-9][0-9]*)", text)
        if match:
            return cls(int(match[1]))
        if text in ("best", "all"):
            return cls(1 if text == "best" else None)
        raise UsageError("is best, all or top-K, such as top-3", place="--keep", value=text)

    def wants(self, value: float, others: Iterable[float], maximize: bool) -> bool:
        """Whether a trial of `value` is among those to keep; earlier ones win ties."""
        ahead = sum(other >= value if maximize else other <= value for other in others)
        return self.count is None or ahead < self.count

    def chosen(self, values: Mapping[int, float], maximize: bool) -> set[int]:
        """The trials to keep, of all that have a value."""
        ranked = sorted(values, key=lambda number: (-values[number] if maximize else values[number], number))
        return set(ranked if self.count is None else ranked[: self.count])


def save_trial(
    weights_file: Path,
    recipe_file: Path,
    weights: Mapping[str, Tensor],
    recipe: Mapping[str, Any],
    about: Mapping[str, Any],
) -> None:
    """Write a recipe (a file that `tuner train` takes) and weights, each in place at once.

    `about` holds `task`, `metric`, `direction` and `value`, which a search space has beside its recipe.
    """
    write_atomically(recipe_file, dump_yaml({**about, "recipe": dict(recipe)}).encode())
    save_weights(weights_file, weights, {key: str(value) for key, value in about.items()})


def drop_drafts(folder: Path) -> None:
    """Delete half-written files that a killed process left: our own, and those of safetensors."""
    for pattern in (".*.part", ".tmp*"):
        for path in folder.rglob(pattern):
            path.unlink(missing_ok=True)


def drop_others(folder: Path, chosen: set[int]) -> None:
    """Delete weights and recipes of trials that are no longer kept."""
    for path in folder.glob("trial-*.safetensors"):
        number = path.stem.removeprefix("trial-")
        if number.isdigit() and int(number) not in chosen:
            path.with_suffix(".yaml").unlink(missing_ok=True)  # first: it is found by the weights beside it
            path.unlink(missing_ok=True)
