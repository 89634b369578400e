"""SHELF: learning-rate schedules. Schedulers of `torch.optim.lr_scheduler` by their class name, and our own.

A file in this folder with a subclass of `LRScheduler` that declares its `name` is a new scheduler; `length` may name
the option that takes the run's length where it is left out.
"""

from tuner.schedules.building import build
from tuner.schedules.catalog import is_plateau, names
from tuner.schedules.checking import check
from tuner.schedules.overwriting import overwrites
from tuner.schedules.simulate import rates, why_constant

__all__ = ["build", "check", "is_plateau", "names", "overwrites", "rates", "why_constant"]
