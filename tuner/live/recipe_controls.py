"""The controls of a recipe: what of it can be turned while it trains, and the recipe that it is turned to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tuner import optimizers
from tuner.live.controls import Control, Value
from tuner.live.session import STEPS_PER_UPDATE
from tuner.optimizers.options import numeric_options
from tuner.probe import Probe
from tuner.recipe import Recipe, loss_weights
from tuner.tasks import Task
from tuner.training.settings import NONE, WEIGHTED, default_options, starting_options
from tuner.turns import NO_PHASE

OPTIMIZERS = ("Adam", "SGD", "AdamW", "RMSprop", "Adagrad")
"""The optimizers that can be switched to, beside the recipe's own."""

START: Mapping[str, Any] = {"optimizer": "Adam", "learning_rate": 2e-3, "optimizer_kwargs": {}}
"""Where a session begins that is given a task, and not a recipe."""

DEFAULT_SCHEDULER = "CosineAnnealingLR"
BETAS = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax")
LARGEST_BATCH = 4096

HINTS = {
    "optimizer": "At a plateau, try SGD with momentum. A switch keeps the weights and begins with a fresh state.",
    "learning_rate": "Down when the loss jumps about, up when it crawls.",
    "optimizer_kwargs.weight_decay": "Up when validation falls behind training.",
    "optimizer_kwargs.momentum": "0.9 is a good start; higher is smoother. For Adam and its kin it is the first beta.",
    "optimizer_kwargs.beta2": "How long squared gradients are remembered. Lower where the loss has spikes.",
    "gradient_clip": "The most that the gradient's norm may be; 0 is no bound. Try 1 where the loss has spikes.",
    "loss": "The term that is minimized, or all by their weights. The curves of the single terms stay comparable.",
    "scheduler": "On: from now on, over the recipe's epochs. Off: the learning rate as it stands here.",
    "batch_size": "Larger is smoother, and slower a step.",
    STEPS_PER_UPDATE: "Steps between two updates of this page. Training does not change.",
}


def controls_of(recipe: Recipe, task: Task, probe: Probe) -> list[Control]:
    """Everything of a recipe that a session turns, in the order in which a page shows it."""
    found = [*_of_optimizer(recipe), *_of_loss(recipe, probe), *_of_pace(recipe, probe), *_of_task(recipe, task, probe)]
    return [replace(control, hint=HINTS.get(control.name, control.hint)) for control in found]


def _of_optimizer(recipe: Recipe) -> list[Control]:
    names = tuple(dict.fromkeys([recipe.optimizer, *OPTIMIZERS]))
    rate = optimizers.rate_for(recipe.optimizer, recipe.learning_rate)
    given = default_options(recipe, recipe.optimizer)
    options = {name: numeric_options(name) for name in names}
    starts = starting_options(recipe, recipe.optimizer)
    with_momentum = tuple(name for name in names if "momentum" in options[name])
    with_betas = tuple(name for name in names if name in BETAS)
    decaying = tuple(name for name in names if "weight_decay" in options[name])
    scheduler = recipe.scheduler or DEFAULT_SCHEDULER
    decay, kwargs = float(given.get("weight_decay", 0.0)), "optimizer_kwargs"
    return [
        Control("optimizer", "choice", recipe.optimizer, choices=names, setting=True),
        _number("learning_rate", rate, 1e-5, 0.1, "log"),
        _number(f"{kwargs}.weight_decay", decay, 0.0, 0.1, "cubic", with_optimizers=decaying),
        _number(f"{kwargs}.momentum", starts.get(f"{kwargs}.momentum", 0.0), 0.0, 0.999, with_optimizers=with_momentum),
        _number(f"{kwargs}.beta2", starts.get(f"{kwargs}.beta2", 0.999), 0.5, 0.9999, with_optimizers=with_betas),
        _number("gradient_clip", recipe.gradient_clip or 0.0, 0.0, 100.0, "cubic"),
        Control(
            "scheduler",
            "choice",
            NONE,
            choices=tuple(dict.fromkeys([NONE, scheduler, DEFAULT_SCHEDULER])),
            setting=True,
        ),
    ]


def _of_loss(recipe: Recipe, probe: Probe) -> list[Control]:
    weights = loss_weights(recipe, probe.terms)
    found = [
        _number(f"loss_weights.{name}", weight, 0.0, max(2.0, 4 * weight), "cubic", label=f"weight of {name}")
        for name, weight in weights.items()
    ]
    if len(probe.terms) == 1:
        return found
    found = [replace(control, implies=(("loss", WEIGHTED),)) for control in found]
    return [Control("loss", "choice", recipe.loss or WEIGHTED, choices=(*probe.terms, WEIGHTED), setting=True), *found]


def _of_pace(recipe: Recipe, probe: Probe) -> list[Control]:
    most = float(max(recipe.batch_size, min(LARGEST_BATCH, probe.samples)))
    return [
        Control("batch_size", "number", recipe.batch_size, 1.0, most, "log", whole=True, setting=True),
        Control(STEPS_PER_UPDATE, "number", 6, 1.0, 1000.0, "log", whole=True),
    ]


def _of_task(recipe: Recipe, task: Task, probe: Probe) -> list[Control]:
    """The task's phases, and each of its numbers that is read anew at every step."""
    found = []
    if task.phases and probe.has_tensors:
        found.append(Control("phase", "choice", NO_PHASE, choices=(NO_PHASE, *task.phases)))
    for name in task.properties if probe.has_tensors else ():
        value = recipe.data.get(name, task.data_options.get(name))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = task.ranges.get(name, _around(value))
            found.append(_number(f"data.{name}", value, low, high))
    return found


def _around(value: float) -> tuple[float, float]:
    """Ends for a number of which nothing is known but where it begins."""
    if 0 <= value <= 1:
        return 0.0, 1.0
    return min(0.0, 4 * value), max(0.0, 4 * value)


def _number(name: str, value: float, low: float, high: float, scale: Any = "linear", **more: Any) -> Control:
    """A number whose ends make room for where it begins."""
    return Control(name, "number", float(value), min(low, float(value)), max(high, float(value)), scale, **more)


def turned_recipe(recipe: Recipe, values: Mapping[str, Value], timeline: Mapping[str, Any] | None) -> Recipe:
    """The recipe as its controls stand at `values`: what `tuner train` would train from the beginning.

    `timeline` is what is left of its timeline. Options of the scheduler go with the recipe's own only.
    """
    optimizer = str(values["optimizer"])
    options = dict(default_options(recipe, optimizer))
    numbers = {
        path.partition(".")[2]: float(value) for path, value in values.items() if path.startswith("optimizer_kwargs.")
    }
    known = {*numeric_options(optimizer), *(("beta2",) if optimizer in BETAS else ())}
    numbers = {name: number for name, number in numbers.items() if name in known}
    if optimizer in BETAS:
        options["betas"] = [numbers.pop("momentum"), numbers.pop("beta2")]
    nested = recipe.model_dump() | {
        "optimizer": optimizer,
        "optimizer_kwargs": options | numbers,
        "learning_rate": values["learning_rate"],
        "gradient_clip": values["gradient_clip"] or None,
        "scheduler": None if values["scheduler"] == NONE else values["scheduler"],
        "batch_size": values["batch_size"],
        "timeline": timeline,
    }
    if values["scheduler"] != recipe.scheduler:
        nested |= {"scheduler_kwargs": {}, "scheduler_configs": {}}
    loss = values.get("loss", WEIGHTED)
    weights = {path.partition(".")[2]: value for path, value in values.items() if path.startswith("loss_weights.")}
    nested["loss"] = None if loss == WEIGHTED else loss
    nested["loss_weights"] = {} if nested["loss"] else weights
    nested["data"] = recipe.data | {p.partition(".")[2]: v for p, v in values.items() if p.startswith("data.")}
    return Recipe.model_validate(nested)
