"""Settings that are turned in the middle of a run: which optimizer, which loss, a scheduler or none, the batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from tuner import optimizers, schedules
from tuner.errors import UsageError, did_you_mean
from tuner.optimizers.options import has_option, option_of, set_learning_rate, set_option
from tuner.recipe import OPTIMIZER_KWARGS, Recipe, SchedulerConfigs
from tuner.schedules.stepper import Stepper
from tuner.training.batches import steps_per_epoch
from tuner.training.plain import PlainRun
from tuner.training.scheduling import RATES, stepper_over

NONE = "none"
"""The scheduler of a constant rate."""

WEIGHTED = "weighted"
"""The loss that is the sum of all terms by their weights."""


def apply_setting(run: PlainRun, name: str, value: str) -> None:
    """Change one of `SETTINGS` of a run before its next step; the weights stay as they are.

    Raises `UsageError` for a value that the run cannot take.
    """
    with _as_usage(name, value):
        SETTINGS[name](run, value)


@contextmanager
def _as_usage(name: str, value: str) -> Iterator[None]:
    """Whatever torch says of a value, as an error for a person."""
    if name not in SETTINGS:
        raise UsageError(f"no setting of a run is called '{name}'", hint=did_you_mean(name, SETTINGS))
    try:
        yield
    except UsageError:
        raise
    except (ValueError, TypeError) as error:
        raise UsageError(str(error), place=name, value=value) from error


def default_options(recipe: Recipe, optimizer: str) -> dict[str, Any]:
    """The options that an optimizer has in a recipe which may be made for another."""
    own = recipe.optimizer_kwargs if optimizer == recipe.optimizer else {}
    return {**OPTIMIZER_KWARGS.get(optimizer, {}), **own}


def starting_options(recipe: Recipe, optimizer: str) -> dict[str, float]:
    """Momentum and second beta, by recipe path, that an optimizer has when it is switched to, as far as it has such."""
    with torch.random.fork_rng(devices=[]):
        model = torch.nn.Linear(1, 1, bias=False)
    built = optimizers.build(optimizer, model, 1e-3, default_options(recipe, optimizer))
    found = {f"optimizer_kwargs.{name}": option_of(built, name) for name in ("momentum", "beta2")}
    return {path: value for path, value in found.items() if value is not None}


def _optimizer_for(run: PlainRun, name: str) -> torch.optim.Optimizer:
    """Another optimizer over the same weights, its state fresh; rate and weight decay stay as they are."""
    if name not in optimizers.names():
        raise UsageError(f"torch has no optimizer '{name}'", hint=did_you_mean(name, optimizers.names()))
    optimizers.check_model(name, run.model)
    options = default_options(run.given, name)
    fresh = optimizers.build(name, run.model, run.base_rate, options, run.recipe.lr_multipliers)
    decay = option_of(run.optimizer, "weight_decay")
    if decay is not None and has_option(fresh, "weight_decay"):
        set_option(fresh, "weight_decay", decay)
    return fresh


def _switch_optimizer(run: PlainRun, name: str) -> None:
    """Another optimizer; a scheduler goes on over it from where it is."""
    fresh = _optimizer_for(run, name)
    if run.stepper is not None:
        assert run.recipe.scheduler is not None
        stepper = _stepper_for(run, run.recipe.scheduler, fresh)[0]
        stepper.go_on_from(run.stepper)
        for new, old in zip(fresh.param_groups, run.optimizer.param_groups, strict=True):
            new.update({key: old[key] for key in RATES if key in old})
        run.stepper = stepper
    run.optimizer = fresh


def _switch_scheduler(run: PlainRun, name: str) -> None:
    """A scheduler that begins at this step and is as long from here as the recipe's epochs; or the plain rate again."""
    set_learning_rate(run.optimizer, run.base_rate)
    run.stepper = None
    if name != NONE:
        for group in run.optimizer.param_groups:
            group.pop("initial_lr", None)
        run.stepper, run.recipe = _stepper_for(run, name, run.optimizer)


def _stepper_for(run: PlainRun, name: str, optimizer: torch.optim.Optimizer) -> tuple[Stepper, Recipe]:
    """The scheduler `name`, over an optimizer, from the next step on, and the recipe with it.

    The options are the recipe's if it is the recipe's own scheduler.
    """
    if name not in schedules.names():
        raise UsageError(f"there is no scheduler '{name}'", hint=did_you_mean(name, schedules.names()))
    update = {"scheduler": name, "scheduler_kwargs": {}, "scheduler_configs": SchedulerConfigs()}
    if name == run.given.scheduler:
        update |= {key: getattr(run.given, key) for key in ("scheduler_kwargs", "scheduler_configs")}
    recipe = run.recipe.model_copy(update=update)
    stepper = stepper_over(optimizer, recipe, run.goal, tuple(run.weights), run.steps_per_epoch, run.position)
    assert stepper is not None
    return stepper, recipe


def _choose_loss(run: PlainRun, name: str) -> None:
    if name != WEIGHTED and name not in run.weights:
        raise UsageError(f"the task has no loss term '{name}'", hint=did_you_mean(name, [*run.weights, WEIGHTED]))
    run.loss = None if name == WEIGHTED else name


def _count(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise UsageError("must be a whole number from 1", place="batch_size", value=value)
    return int(value)


def _set_batch_size(run: PlainRun, value: str) -> None:
    """Other batches from the next one on; what is left of the epoch is cut into them."""
    run.recipe = run.recipe.model_copy(update={"batch_size": _count(value)})
    run.steps_per_epoch = steps_per_epoch(run.data.train, run.recipe.batch_size)
    run.renew_batches()


SETTINGS: Mapping[str, Callable[[PlainRun, str], None]] = {
    "optimizer": _switch_optimizer,
    "batch_size": _set_batch_size,
    "scheduler": _switch_scheduler,
    "loss": _choose_loss,
}
"""What can be set, in the order in which it is for a run that begins anew."""
