"""Trainer: starts runs of one task on one device, and drives a run to its end."""

from __future__ import annotations

import gc
import json
from collections import deque
from collections.abc import Callable
from weakref import WeakValueDictionary

import torch

from tuner.recipe import Recipe
from tuner.tasks.base import Data, Samples, Source, Task
from tuner.training.device import place
from tuner.training.plain import PlainRun
from tuner.training.run import EpochRecord, Goal, Result

DATA_KEPT = 2
"""So many of the last data sets stay loaded; where data options are searched there may be any number."""

Callback = Callable[[EpochRecord], None]
"""Called after every epoch; may raise to end the run."""


class Trainer:
    """Starts runs of `task`; data lies on the device, and is kept while a run or one of the last uses it.

    `terms` are the task's loss terms, as `probe.probe_task` found them.
    """

    def __init__(
        self,
        task: Task,
        goal: Goal,
        terms: tuple[str, ...],
        device: torch.device,
    ) -> None:
        self.task, self.goal, self.terms, self.device = task, goal, terms, device
        self._data: WeakValueDictionary[str, Data] = WeakValueDictionary()
        self._recent: deque[Data] = deque(maxlen=DATA_KEPT)
        self._test: tuple[str, Source | None] | None = None

    def start(self, recipe: Recipe, between_steps: Callable[[], None] = lambda: None) -> PlainRun:
        """A run of `recipe` before its first step; `between_steps` is called after each, and may raise to end it."""
        return PlainRun(self.task, self.data(recipe), recipe, self.goal, self.terms, self.device, between_steps)

    def data(self, recipe: Recipe) -> Data:
        """The data that `recipe` trains on."""
        key = _key(recipe)
        data = self._data.get(key)
        if data is None:
            data = self._data[key] = place(self.task.data(recipe.data), self.device)
        self._recent.append(data)
        return data

    def test_data(self, recipe: Recipe) -> Source | None:
        """The task's test split for `recipe`, on the device where that is the place of the other data; None without."""
        key = _key(recipe)
        if self._test is None or self._test[0] != key:
            data, own = self.data(recipe), type(self.task).test_data is not Task.test_data
            test = self.task.test_data(recipe.data) if own else data.test
            if isinstance(test, Samples) and isinstance(data.train, Samples):
                test = test.to(data.train.device)
            self._test = key, test
        return self._test[1]


def _key(recipe: Recipe) -> str:
    """Equal for recipes of the same data."""
    return json.dumps(recipe.data, sort_keys=True, default=str)


def train(run: PlainRun, callbacks: tuple[Callback, ...] = ()) -> Result:
    """Train a run to its end, every epoch's record going to each callback in turn."""
    while not run.done:
        for record in run.epoch():
            for callback in callbacks:
                callback(record)
    return run.result()


def free_memory() -> None:
    """Give memory that nothing refers to any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device or the machine has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "out of memory" in str(error))
