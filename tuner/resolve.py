"""Every check that needs torch and the task, before the first trial: names, options, shapes, monitors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from tuner import optimizers, schedules
from tuner.errors import SearchSpaceError, TaskError, UsageError, did_you_mean
from tuner.recipe import Recipe
from tuner.registry import place_of
from tuner.search_space.parameter import Choices, Parameter, is_number
from tuner.search_space.space import SearchSpace, check_names
from tuner.seeds import seed_for
from tuner.tasks import Batch, Samples, Task, task_source
from tuner.tasks.base import Source, as_batch

PROBE_SAMPLES = 4

CheckOptions = Callable[[str, list[str], Callable[[str], str]], None]


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
    for name, place in _named(space, "optimizer"):
        _check_choice(space, "optimizer", name, place, optimizers.names(), optimizers.check)
    for name, place in _named(space, "scheduler"):
        _check_choice(space, "scheduler", name, place, schedules.names(), schedules.check)
    recipe, _ = space.recipe_for(space.default_values()[0])
    probe = probe_task(task, recipe, space)
    _check_losses(space, probe)
    _check_metric(space, probe)
    _check_build(space, task, recipe)
    for parameter in space.parameters:
        _check_ends(space, task, parameter)
    return _with_written_weights(space, probe), probe


def with_task_options(space: SearchSpace, task: Task) -> SearchSpace:
    """The space with defaults of `model` and `data` filled in from the task.

    Unknown options are errors, and so are values of another type than the option's default.
    """
    updates: dict[str, Any] = {}
    for section, options in (("model", task.model_options), ("data", task.data_options)):
        given: Mapping[str, Any] = getattr(space.recipe, section)
        derived = [path for path in space.derived if path.startswith(f"{section}.")]
        for path in [*(f"{section}.{name}" for name in given), *space.searched(section), *derived]:
            name = path.partition(".")[2]
            if name not in options:
                hint = did_you_mean(name, options) if options else f"Its `{section}_options` are empty."
                raise SearchSpaceError(
                    f"task {type(task).__name__} has no {section} option '{name}'", place=space.where(path), hint=hint
                )
        for name, value in given.items():
            _check_kind(value, options[name], space.where(f"{section}.{name}"))
        for parameter in space.parameters:
            if parameter.path.startswith(f"{section}."):
                default = options[parameter.path.partition(".")[2]]
                for key, value in _ends(parameter):
                    _check_kind(value, default, f"{space.where(parameter.path)}.{key}")
        updates[section] = {**options, **given}
    return replace(space, recipe=space.recipe.model_copy(update=updates))


def _check_kind(value: Any, default: Any, place: str) -> None:
    """A value must be of its default's type; a default that is None or a list says nothing."""
    kinds: tuple[tuple[type, str, Callable[[Any], bool]], ...] = (
        (bool, "true or false", lambda entry: isinstance(entry, bool)),
        (int, "a whole number", lambda entry: isinstance(entry, int) and not isinstance(entry, bool)),
        (float, "a number", is_number),
        (str, "a text", lambda entry: isinstance(entry, str)),
    )
    for kind, words, fits in kinds:
        if isinstance(default, kind):
            if value is not None and not fits(value):
                raise SearchSpaceError(f"must be {words}, as its default {default!r} is", place=place, value=value)
            return


def _ends(parameter: Parameter) -> list[tuple[str, Any]]:
    """Every choice, or both ends of a range, with the key that says it."""
    if isinstance(parameter, Choices):
        return [(f"choices[{i}]", value) for i, value in enumerate(parameter.choices)]
    description = parameter.describe()
    return [(key, description[key]) for key in ("low", "high")]


def _check_conditions(space: SearchSpace) -> None:
    """Conditions on options of the task, unknown until now, and on names that torch does not have."""
    known = {*space.recipe.flat(), *(entry.path for entry in space.parameters)}
    for parameter in space.parameters:
        for path, allowed in parameter.when.items():
            place = f"{space.where(parameter.path)}.when"
            if path not in known:
                raise SearchSpaceError(f"there is no value '{path}'", place=place, hint=did_you_mean(path, known))
            for value in allowed if path in ("optimizer", "scheduler") else ():
                names = optimizers.names() if path == "optimizer" else schedules.names()
                if value is not None and value not in names:
                    raise SearchSpaceError(
                        f"{path} never takes this value",
                        place=f"{place}.{path}",
                        value=value,
                        hint=did_you_mean(value, names),
                    )


def _named(space: SearchSpace, field: str) -> list[tuple[Any, str]]:
    """Every name that `field` can take, with the place that says so."""
    for parameter in space.parameters:
        if parameter.path == field and isinstance(parameter, Choices):
            return [(name, f"{space.where(field)}.choices[{i}]") for i, name in enumerate(parameter.choices)]
    return [(getattr(space.recipe, field), space.where(field))]


def _check_choice(
    space: SearchSpace, field: str, name: Any, place: str, known: Mapping[str, Any], check: CheckOptions
) -> None:
    """An optimizer or scheduler must be torch's, and the options that can stand beside it its own."""
    if name is None:
        return
    if field == "scheduler" and name in schedules.COMPOSED:
        raise SearchSpaceError(f"{name} is built from functions or other schedulers", place=place)
    if name not in known:
        raise SearchSpaceError(f"there is no {field} '{name}'", place=place, hint=did_you_mean(name, known))
    fixed = list(getattr(space.recipe, f"{field}_kwargs"))
    searched = [
        entry.path.partition(".")[2]
        for entry in space.parameters
        if entry.path.startswith(f"{field}_kwargs.") and name in entry.when.get(field, (name,))
    ]
    try:
        check(name, [*fixed, *searched], lambda option: space.where(f"{field}_kwargs.{option}"))
    except UsageError as error:
        hint = error.hint
        if " has no option " in error.rule and error.rule.split("'")[1] in searched:
            hint += f" If it is meant for another {field}, add `when: {{{field}: NAME}}`."
        raise SearchSpaceError(error.rule, place=error.place, hint=hint) from None


def probe_task(task: Task, recipe: Recipe, space: SearchSpace | None = None) -> Probe:
    """Push a few validation samples through a fresh model and its losses, as a trial would.

    Raises `SearchSpaceError` for options that make no model, `TaskError` for a task that breaks its contract.
    """
    model = build_model(task, recipe, space.where("model") if space else "recipe.model")
    with _blaming(task, "data"):
        batch = first_batch(task.data(recipe.data).validation)
    model.eval()
    with torch.no_grad():
        with _blaming(task, "predict"):
            output = task.predict(model, batch.inputs)
        with _blaming(task, "losses"):
            terms = task.losses(output, batch, task.state())
        with _blaming(task, "metrics"):
            metrics = task.metrics(output, batch)
    _check_terms(task, terms, tuple(metrics))
    return Probe(
        input_shape=describe_shape(batch.inputs),
        output_shape=describe_shape(output),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        terms=tuple(terms),
        metrics=tuple(metrics),
    )


@contextmanager
def _blaming(task: Task, method: str) -> Iterator[None]:
    """Turn an exception of the task's own code into a `TaskError` that names the file and line."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        rule = f"{type(task).__name__}.{method} fails: {type(error).__name__}: {error}"
        raise TaskError(rule, place=place_of(error, _source(task))) from error


def _source(task: Task) -> Path:
    """The task's file, as short as it can be said from here."""
    path = task_source(task)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def build_model(task: Task, recipe: Recipe, place: str = "recipe.model") -> torch.nn.Module:
    """The task's model for a recipe, on the CPU; its weights depend on `recipe.seed` alone.

    Raises `SearchSpaceError` where the task refuses the options, `TaskError` where its code fails.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("weights", recipe.seed))
        with _blaming(task, "build_model"):
            try:
                return task.build_model(recipe.model)
            except ValueError as error:
                raise SearchSpaceError(str(error), place=place, value=recipe.model) from error


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


def _check_terms(task: Task, terms: object, metrics: tuple[str, ...]) -> None:
    owner, place = type(task).__name__, str(_source(task))
    if not isinstance(terms, Mapping):
        raise TaskError(
            f"{owner}.losses must give named terms: {{'mse': ...}}", place=place, value=type(terms).__name__
        )
    if not terms:
        raise TaskError(f"{owner}.losses returns no loss term", place=place)
    for name in [*terms, *metrics]:
        if name == "loss" or (name in terms and name in metrics):
            raise TaskError(
                f"{owner}: '{name}' is taken; name loss terms and metrics apart, and none of them 'loss'", place=place
            )
    for name, term in terms.items():
        if not isinstance(term, torch.Tensor) or term.dim() > 1:
            rule = f"{owner}.losses must give one value per sample (or one in all) for '{name}'"
            raise TaskError(rule, place=place, value=describe_shape(term))


def _check_losses(space: SearchSpace, probe: Probe) -> None:
    weights = [*space.recipe.loss_weights, *(path.partition(".")[2] for path in space.searched("loss_weights"))]
    named = [(name, space.where(f"loss_weights.{name}")) for name in weights]
    for name, place in [*named, *_named(space, "loss")]:
        if name is not None and name not in probe.terms:
            raise SearchSpaceError(
                f"the task has no loss term '{name}'", place=place, hint=did_you_mean(name, probe.terms)
            )


def _check_metric(space: SearchSpace, probe: Probe) -> None:
    place = f"{space.place}: metric"
    if space.metric not in probe.recorded:
        raise SearchSpaceError(
            f"the task records no '{space.metric}'", place=place, hint=did_you_mean(space.metric, probe.recorded)
        )
    if not space.direction:
        raise SearchSpaceError(
            "say direction: minimize or maximize", place=f"{space.place}: direction", value=space.metric
        )
    weighted = [*space.searched("loss"), *space.searched("loss_weights")]
    if weighted and space.metric not in probe.unweighted:
        raise SearchSpaceError(
            f"{weighted[0]} is searched, and it changes what {space.metric} means: a weight of zero would win",
            place=place,
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
    if monitor not in probe.recorded:
        raise SearchSpaceError(
            f"the task records no '{monitor}'",
            place=space.where(f"{section}.monitor"),
            hint=did_you_mean(monitor, probe.recorded),
        )
    if monitor_mode(monitor, mode, space.metric, space.maximize, probe.terms) is None:
        raise SearchSpaceError(
            "say whether lower or higher is better: mode: min or max", place=space.where(section), value=monitor
        )


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
    """torch must accept the default recipe's optimizer over the task's model, and its scheduler."""
    model = build_model(task, recipe, space.where("model"))
    try:
        optimizers.build(recipe.optimizer, model, recipe.learning_rate, recipe.optimizer_kwargs, recipe.lr_multipliers)
    except UsageError as error:
        place = space.where(error.place)
        raise SearchSpaceError(error.rule, place=place, value=error.value, hint=error.hint) from None
    except (ValueError, TypeError) as error:
        rule, place = f"{recipe.optimizer}: {error}", space.where("optimizer_kwargs")
        raise SearchSpaceError(rule, place=place, value=recipe.optimizer_kwargs) from error
    problem = _scheduler_problem(recipe)
    if problem:
        raise SearchSpaceError(problem, place=space.where("scheduler_kwargs"), value=recipe.scheduler_kwargs)


def _check_ends(space: SearchSpace, task: Task, parameter: Parameter) -> None:
    """What a searched value allows must make a model, an optimizer and a scheduler."""
    section = parameter.path.partition(".")[0]
    if section not in ("model", "optimizer", "optimizer_kwargs", "scheduler", "scheduler_kwargs"):
        return
    for key, value in _ends(parameter):
        recipe, violated = space.recipe_for(_values_with(space, parameter, value))
        problem = None if violated else _problem(task, recipe, section)
        if problem:
            raise SearchSpaceError(problem, place=f"{space.where(parameter.path)}.{key}", value=value)


def _values_with(space: SearchSpace, parameter: Parameter, value: Any) -> dict[str, Any]:
    """The searched values nearest to the default recipe under which `parameter` is active and takes `value`."""
    by_path = {entry.path: entry for entry in space.parameters}
    wanted, waiting = {parameter.path: value}, [parameter]
    while waiting:
        for path, allowed in waiting.pop().when.items():
            if path in by_path and path not in wanted:
                wanted[path] = allowed[0]
                waiting.append(by_path[path])
    return space.nearest_values(space.recipe.with_values(wanted, space.place))[0]


def _problem(task: Task, recipe: Recipe, section: str) -> str | None:
    """Why a recipe cannot be trained, as far as one section decides it; None if it can."""
    if section == "model":
        try:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                task.build_model(recipe.model)
        except ValueError as error:
            return str(error)
        except Exception:
            return None  # some models cannot be built without memory; their trials will tell
        return None
    if section.startswith("scheduler"):
        return _scheduler_problem(recipe)
    try:
        optimizers.build(recipe.optimizer, _dummy(), recipe.learning_rate, recipe.optimizer_kwargs)
    except (ValueError, TypeError) as error:
        return f"{recipe.optimizer}: {error}"
    return None


def _scheduler_problem(recipe: Recipe) -> str | None:
    """Why torch refuses a recipe's scheduler, or fails at its first steps; None if it does not."""
    optimizer = torch.optim.SGD(_dummy().parameters(), lr=0.1, momentum=0.9)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler = schedules.build(
                recipe.scheduler, optimizer, recipe.scheduler_kwargs, recipe.scheduler_configs, recipe.epochs, 4
            )
            for _ in range(2 if scheduler is not None else 0):
                scheduler.step(*([1.0] if schedules.is_plateau(recipe.scheduler) else []))
    except (ValueError, TypeError, ArithmeticError) as error:
        if "more times than" not in str(error) and "Tried to step" not in str(error):
            return f"{recipe.scheduler}: {error}"
    return None


def _dummy() -> torch.nn.Module:
    """The smallest model that every optimizer takes (Muon takes matrices only)."""
    with torch.random.fork_rng(devices=[]):
        return torch.nn.Linear(1, 1, bias=False)


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
