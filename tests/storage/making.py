"""Studies of a sketched task, made and closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuner.search_space import SearchSpace, Target, build_space
from tuner.search_space.file import SpaceFile
from tuner.search_space.yaml_file import parse_yaml
from tuner.storage.epochs import EpochRow
from tuner.storage.studies import OpenStudy, Studies, mark_ready

SEARCH = """
learning_rate: {low: 1e-4, high: 1e-1, log: true}
optimizer: {choices: [Adam, SGD]}
optimizer_kwargs.momentum: {low: 0.5, high: 0.95, when: {optimizer: SGD}}
model.sizes: {choices: [[3, 3], [5, 3], {k: [1, null]}, null]}
"""


def space_of(search: str = SEARCH, recipe: Any = None, **mode: Any) -> SearchSpace:
    content = {
        "task": "sketch",
        "recipe": {"epochs": 5, "model": {"tau": 2.0}, **(recipe or {})},
        "modes": {"full": {"sampler": "random", "trials": 20, "search": parse_yaml(search, "x"), **mode}},
    }
    return build_space(Target("sketch", SpaceFile.model_validate(content), "space.yaml"), "full")


def make(folder: Path, name: str = "s", space: SearchSpace | None = None, task_hash: str = "hash") -> OpenStudy:
    opened = Studies(folder).open(name, space or space_of(), task_hash, 1)
    mark_ready(opened.study)
    return opened


def close(opened: OpenStudy) -> None:
    opened.storage.engine.dispose()


def row_of(trial: int, epoch: int, metrics: dict[str, float], norm: float = 1.0) -> EpochRow:
    return EpochRow(trial + 1, trial, epoch, 0.01, norm, 0.25, metrics)
