"""Studies of a task that is never trained: spaces, asking, and results that follow from the values."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import optuna

from tuner.proposing.proposal import Proposal, Proposer
from tuner.search_space import SearchSpace, Target, build_space
from tuner.search_space.file import SpaceFile
from tuner.search_space.yaml_file import parse_yaml
from tuner.storage.studies import OpenStudy, Studies, mark_ready

MIXED = """
learning_rate: {low: 1e-4, high: 1e-1, log: true}
optimizer: {choices: [Adam, SGD]}
optimizer_kwargs.momentum: {low: 0.5, high: 0.95, when: {optimizer: SGD}}
model.depth: {low: 1, high: 6}
model.sizes: {choices: [[3, 3], [5, 3], [5, 5]]}
model.drop: {low: 0.0, high: 0.5, step: 0.1}
"""
EAGER = {"tpe": {"n_startup_trials": 2}, "gp": {"n_startup_trials": 3}, "cmaes": {"n_startup_trials": 1}}
TEMPLATE: list[Path] = []
"""An empty database, copied for each study: making its tables takes most of the time."""


def space_of(search: str = MIXED, sampler: str = "random", recipe: Any = None, **mode: Any) -> SearchSpace:
    mode = {"sampler_kwargs": EAGER.get(sampler, {}), **mode}
    content = {
        "task": "sketch",
        "recipe": recipe or {},
        "modes": {"full": {"sampler": sampler, "trials": 99, "search": parse_yaml(search, "x"), **mode}},
    }
    return build_space(Target("sketch", SpaceFile.model_validate(content), "space.yaml"), "full")


def open_study(folder: Path, space: SearchSpace) -> OpenStudy:
    folder.mkdir(exist_ok=True, parents=True)
    if not (folder / "s.db").exists():
        shutil.copy(TEMPLATE[-1], folder / "s.db")
    opened = Studies(folder).open("s", space, "hash", 1)
    mark_ready(opened.study)
    return opened


def close(opened: OpenStudy) -> None:
    opened.storage.engine.dispose()


def proposer_of(opened: OpenStudy, space: SearchSpace) -> Proposer:
    return Proposer(opened.study, opened.storage, space)


def score(proposal: Proposal) -> float:
    """A result that depends on the values alone."""
    return zlib.crc32(json.dumps(dict(proposal.values), sort_keys=True).encode()) / 2**32


def tell(opened: OpenStudy, proposal: Proposal) -> None:
    opened.study.tell(proposal.number, score(proposal))


def run(folder: Path, space: SearchSpace, count: int, reopen: bool = False) -> list[Proposal]:
    """Ask and tell `count` times; `reopen` makes connection and proposer anew each time."""
    opened, proposals = open_study(folder, space), []
    proposer = proposer_of(opened, space)
    for _ in range(count):
        if reopen:
            close(opened)
            opened = open_study(folder, space)
            proposer = proposer_of(opened, space)
        proposal = proposer.ask()
        assert proposal is not None
        proposals.append(proposal)
        tell(opened, proposal)
    close(opened)
    return proposals


def table(folder: Path) -> list[tuple[Any, ...]]:
    """The trial table as plain Optuna reads it."""
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder / 's.db'}")
    rows = rows_of(study)
    study._storage._backend.engine.dispose()
    return rows


def rows_of(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [
        (trial.number, trial.state, trial.params, trial.distributions, trial.value, trial.user_attrs)
        for trial in study.get_trials(deepcopy=False)
    ]
