"""Every check that needs torch and the task, before the first trial: names, options, shapes, monitors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from tuner import optimizers, schedules
from tuner.errors import SearchSpaceError, TaskError, UsageError, did_you_mean
from tuner.recipe import Recipe
from tuner.search_space.parameter import Choices
from tuner.search_space.space import SearchSpace, check_names
from tuner.seeds import seed_for
from tuner.tasks import Batch, Samples, Task
from tuner.tasks.base import Source, as_batch

PROBE_SAMPLES = 4


@dataclass(frozen=True)
class Probe:
    """What one batch through a task's model shows: shapes, loss terms, metrics, parameters."""

    input_shape: str
    output_shape: str
    parameters: int
    terms: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def recorded(self) -> tuple[str, ...]:
        """Every name recorded per epoch, and so every valid metric or monitor."""
        names = ("loss", *self.terms, *self.metrics)
        return tuple(f"{part}_{name}" for part in ("train", "val") for name in names)

    @property
    def unweighted(self) -> tuple[str, ...]:
        """The recorded names that no loss weight changes."""
        return tuple(name for name in self.recorded if not name.endswith("_loss"))


def resolve(space: SearchSpace, task: Task) -> tuple[SearchSpace, Probe]:
    """The space with the task's options written out, checked against task and torch.

    Raises `UsageError` at the first thing that could not be trained, before anything is written.
    """
    space = with_task_options(space, task)
    check_names(space, task_known=True)
    _check_conditions(space)
    _check_optimizers(space)
    _check_schedulers(space)
    recipe, _ = space.recipe_for(space.default_values()[0])
    probe = probe_task(task, recipe, space.place)
    _check_losses(space, probe)
    _check_metric(space, probe)
    _check_build(space, task, recipe)
    return _with_written_weights(space, probe), probe


def with_task_options(space: SearchSpace, task: Task) -> SearchSpace:
    """The space with defaults of `model` and `data` filled in from the task; unknown options are errors."""
    updates: dict[str, Any] = {}
    for section, options in (("model", task.model_options), ("data", task.data_options)):
        given: Mapping[str, Any] = getattr(space.recipe, section)
        for name in [
            *given,
            *(path.partition(".")[2] for path in [*space.searched(section), *space.derived]),
        ]:
            path = f"{section}.{name}"
            used = name in given or path in space.searched(section) or path in space.derived
            if used and name not in options:
                hint = did_you_mean(name, options) if options else f"Its `{section}_options` are empty."
                raise SearchSpaceError(
                    f"task {type(task).__name__} has no {section} option '{name}'",
                    place=f"{space.place}: {path}",
                    hint=hint,
                )
        updates[section] = {**options, **given}
    return replace(space, recipe=space.recipe.model_copy(update=updates))


def _check_conditions(space: SearchSpace) -> None:
    """Conditions on options of the task, unknown until now."""
    known = {*space.recipe.flat(), *(entry.path for entry in space.parameters)}
    for parameter in space.parameters:
        for path in parameter.when:
            if path not in known:
                raise SearchSpaceError(
                    f"there is no value '{path}'",
                    place=f"{space.place}: {parameter.path}.when",
                    hint=did_you_mean(path, known),
                )


def _check_optimizers(space: SearchSpace) -> None:
    for name, place in _named(space, "optimizer"):
        _check_options(space, "optimizer", name, place, optimizers.check)


def _check_schedulers(space: SearchSpace) -> None:
    for name, place in _named(space, "scheduler"):
        if name is not None:
            _check_options(space, "scheduler", name, place, schedules.check)


def _named(space: SearchSpace, field: str) -> list[tuple[Any, str]]:
    """Every name that `field` can take, with the place that says so."""
    for parameter in space.parameters:
        if parameter.path == field and isinstance(parameter, Choices):
            place = f"{space.place}: modes.{space.mode}.search.{field}.choices"
            return [(name, f"{place}[{i}]") for i, name in enumerate(parameter.choices)]
    return [(getattr(space.recipe, field), f"{space.place}: recipe.{field}")]


def _check_options(
    space: SearchSpace, field: str, name: Any, place: str, check: Callable[[str, list[str], str], None]
) -> None:
    """The options that can stand beside optimizer or scheduler `name` must be its own."""
    check_name = check
    fixed = list(getattr(space.recipe, f"{field}_kwargs"))
    searched = [
        entry.path.partition(".")[2]
        for entry in space.parameters
        if entry.path.startswith(f"{field}_kwargs.") and name in entry.when.get(field, (name,))
    ]
    try:
        check_name(name, [*fixed, *searched], f"{space.place}: {field}_kwargs")
    except UsageError as error:
        if f"no {field} " in error.rule:
            raise SearchSpaceError(error.rule, place=place, hint=error.hint) from None
        choices = [entry for entry, _ in _named(space, field)]
        if len(choices) > 1:
            hint = f"{error.hint} Where it is an option of others among {choices}, add `when: {{{field}: ...}}`."
            raise SearchSpaceError(error.rule, place=error.place, hint=hint) from None
        raise


def probe_task(task: Task, recipe: Recipe, place: str) -> Probe:
    """Push a few validation samples through a fresh model and its losses, as a trial would.

    Raises `SearchSpaceError` for options that make no model, `TaskError` for a task that breaks its contract.
    """
    model = build_model(task, recipe, place)
    data = task.data(recipe.data)
    batch = first_batch(data.validation)
    model.eval()
    with torch.no_grad():
        output = task.predict(model, batch.inputs)
        terms = task.losses(output, batch, task.state())
        metrics = task.metrics(output, batch)
    _check_terms(task, terms, tuple(metrics))
    return Probe(
        input_shape=describe_shape(batch.inputs),
        output_shape=describe_shape(output),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        terms=tuple(terms),
        metrics=tuple(metrics),
    )


def build_model(task: Task, recipe: Recipe, place: str = "recipe") -> torch.nn.Module:
    """The task's model for a recipe, on the CPU; its weights depend on `recipe.seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("weights", recipe.seed))
        try:
            return task.build_model(recipe.model)
        except ValueError as error:
            raise SearchSpaceError(str(error), place=f"{place}: model", value=recipe.model) from error


def first_batch(source: Source, count: int = PROBE_SAMPLES) -> Batch:
    """The first few samples of a source."""
    if isinstance(source, Samples):
        return source.rows(torch.arange(min(count, len(source))))
    size = min(count, len(source))  # type: ignore[arg-type]
    return as_batch(torch.utils.data.default_collate([source[i] for i in range(size)]))


def describe_shape(value: Any) -> str:
    """Shapes of the tensors in a nested value: `4 x 1 x 8 x 8`."""
    if isinstance(value, torch.Tensor):
        return " x ".join(str(size) for size in value.shape) or "scalar"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {describe_shape(entry)}" for name, entry in value.items())
    if isinstance(value, (tuple, list)):
        return ", ".join(describe_shape(entry) for entry in value)
    return type(value).__name__


def _check_terms(task: Task, terms: Mapping[str, Any], metrics: tuple[str, ...]) -> None:
    owner = type(task).__name__
    if not terms:
        raise TaskError(f"{owner}.losses returns no loss term")
    for name in [*terms, *metrics]:
        if name == "loss" or (name in terms and name in metrics):
            raise TaskError(f"{owner}: '{name}' is taken; name loss terms and metrics apart, and none of them 'loss'")
    for name, term in terms.items():
        if not isinstance(term, torch.Tensor) or term.dim() > 1:
            raise TaskError(
                f"{owner}.losses must give one value per sample (or one in all) for '{name}'",
                value=describe_shape(term),
            )


def _check_losses(space: SearchSpace, probe: Probe) -> None:
    names = [path.partition(".")[2] for path in space.searched("loss_weights")]
    for name in [*space.recipe.loss_weights, *names]:
        if name not in probe.terms:
            raise SearchSpaceError(
                f"the task has no loss term '{name}'",
                place=f"{space.place}: loss_weights.{name}",
                hint=did_you_mean(name, probe.terms),
            )
    for name, place in _named(space, "loss"):
        if name is not None and name not in probe.terms:
            raise SearchSpaceError(
                f"the task has no loss term '{name}'", place=place, hint=did_you_mean(name, probe.terms)
            )


def _check_metric(space: SearchSpace, probe: Probe) -> None:
    if space.metric not in probe.recorded:
        raise SearchSpaceError(
            f"the task records no '{space.metric}'",
            place=f"{space.place}: metric",
            hint=did_you_mean(space.metric, probe.recorded),
        )
    weighted = [*space.searched("loss"), *space.searched("loss_weights")]
    if weighted and space.metric.endswith("_loss") and space.metric not in probe.unweighted:
        raise SearchSpaceError(
            f"{weighted[0]} is searched, and it changes what {space.metric} means: a weight of zero would win",
            place=f"{space.place}: metric",
            value=space.metric,
            hint="Unweighted metrics: " + ", ".join(probe.unweighted),
        )
    recipe = space.recipe
    if recipe.early_stopping is not None:
        stopping = recipe.early_stopping
        _check_monitor(stopping.monitor, stopping.mode, space, probe, "early_stopping")
    if any(schedules.is_plateau(name) for name, _ in _named(space, "scheduler")):
        given = recipe.scheduler_kwargs.get("mode", "auto")
        _check_monitor(recipe.scheduler_configs.monitor, given, space, probe, "scheduler_configs")


def _check_monitor(monitor: str, mode: str, space: SearchSpace, probe: Probe, section: str) -> None:
    place = f"{space.place}: recipe.{section}"
    if monitor not in probe.recorded:
        raise SearchSpaceError(
            f"the task records no '{monitor}'",
            place=f"{place}.monitor",
            hint=did_you_mean(monitor, probe.recorded),
        )
    if monitor_mode(monitor, mode, space.metric, space.maximize, probe.terms) is None:
        raise SearchSpaceError("say whether lower or higher is better: mode: min or max", place=place, value=monitor)


def monitor_mode(
    monitor: str, mode: str, metric: str, maximize: bool, terms: tuple[str, ...]
) -> Literal["min", "max"] | None:
    """Whether a monitored value is better lower or higher; None where only the recipe's `mode` could say.

    Losses are minimized, and the study's metric follows the study's direction.
    """
    if mode in ("min", "max"):
        return "min" if mode == "min" else "max"
    if monitor == metric:
        return "max" if maximize else "min"
    return "min" if monitor.partition("_")[2] in ("loss", *terms) else None


def _check_build(space: SearchSpace, task: Task, recipe: Recipe) -> None:
    """torch must accept the default recipe's optimizer and scheduler with their values."""
    model = build_model(task, recipe, space.place)
    try:
        optimizer = optimizers.build(
            recipe.optimizer, model, recipe.learning_rate, recipe.optimizer_kwargs, recipe.lr_multipliers
        )
    except (ValueError, TypeError) as error:
        if isinstance(error, UsageError):
            raise error.at(f"{space.place}: recipe") from None
        raise SearchSpaceError(
            f"{recipe.optimizer}: {error}",
            place=f"{space.place}: optimizer_kwargs",
            value=recipe.optimizer_kwargs,
        ) from error
    try:
        schedules.build(
            recipe.scheduler, optimizer, recipe.scheduler_kwargs, recipe.scheduler_configs, recipe.epochs, 1
        )
    except (ValueError, TypeError) as error:
        raise SearchSpaceError(
            f"{recipe.scheduler}: {error}",
            place=f"{space.place}: scheduler_kwargs",
            value=recipe.scheduler_kwargs,
        ) from error


def _with_written_weights(space: SearchSpace, probe: Probe) -> SearchSpace:
    """Where single loss weights are searched, the others stay at the weight 1 that they have by default."""
    if not space.searched("loss_weights") or space.recipe.loss_weights or space.recipe.loss:
        return space
    weights = dict.fromkeys(probe.terms, 1.0)
    return replace(space, recipe=space.recipe.model_copy(update={"loss_weights": weights}))


def loss_weights(recipe: Recipe, terms: tuple[str, ...]) -> dict[str, float]:
    """The weight of every loss term: as the recipe says, or 1 each where it says nothing."""
    if recipe.loss is not None:
        return {name: float(name == recipe.loss) for name in terms}
    if recipe.loss_weights:
        return {name: recipe.loss_weights.get(name, 0.0) for name in terms}
    return dict.fromkeys(terms, 1.0)
