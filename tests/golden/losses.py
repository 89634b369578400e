"""Ten training losses of every bundled task; run as a script it writes them anew.

    python tests/golden/losses.py [TASK...]

Do that only for a change that is meant to change results, and say so in its message.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from tuner.objective import goal_of
from tuner.resolve import resolve
from tuner.search_space import build_space, find_target
from tuner.tasks import bundled, load_task
from tuner.training.trainer import Trainer

FOLDER = Path(__file__).parent
STEPS = 10


def losses_of(name: str) -> list[float]:
    """The weighted training loss at the first ten steps of a task's default recipe in mode `quick`, on the CPU."""
    space, probe = resolve(build_space(find_target(name), "quick"), load_task(name))
    recipe, _ = space.recipe_for(space.default_values()[0])
    run = Trainer(load_task(name), goal_of(space), probe.terms, torch.device("cpu")).start(recipe)
    for _ in range(STEPS):
        if run.epoch_is_trained:
            run.epoch()
        run.step()
    return [float(loss) for loss in run.series.array()[:, run.series.columns.index("loss")]]


def path_of(name: str) -> Path:
    """Where a task's losses stand."""
    return FOLDER / f"{name}.json"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for task in sys.argv[1:] or sorted(bundled()):
        path_of(task).write_text(json.dumps(losses_of(task), indent=1) + "\n")
        print(path_of(task).name)
