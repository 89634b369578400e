"""Recipe: how one model is trained. Every field, its default, its bounds, its unit.

A recipe is plain data. Names of optimizers, schedulers, loss terms and options are checked against torch
and the task in `resolve.py`; bounds and types are checked here.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tuner.errors import SearchSpaceError, below, did_you_mean

T = TypeVar("T", bound=BaseModel)
NonNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Direction = Literal["auto", "min", "max"]

LEARNING_RATES = {"Adam": 1e-3, "AdamW": 1e-3, "SGD": 1e-2, "RMSprop": 1e-2, "Adagrad": 1e-2}
"""Learning rates used unless one is given; other optimizers start at torch's own default."""

OPTIMIZER_KWARGS: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9}}
"""Optimizer options used unless given, where torch's own default is seldom wanted."""

INTEGER_OPTIONS = frozenset(
    (
        "patience", "cooldown", "T_max", "T_0", "T_mult", "step_size", "total_iters", "total_steps", "epochs",
        "steps_per_epoch", "step_size_up", "step_size_down", "warmup_epochs", "max_epochs", "max_iter", "max_eval",
        "history_size",
    )
)  # fmt: skip
"""Options of torch's optimizers and schedulers that count something; all other numeric ones are floats."""

OPEN_SECTIONS = frozenset(
    {"optimizer_kwargs", "scheduler_kwargs", "loss_weights", "lr_multipliers", "timeline", "model", "data"}
)
"""Sections whose names come from torch, from the task, or from a timeline's columns."""

ALIASES = {"recurrent_learning_rate_multiplier": "lr_multipliers.recurrence"}
"""Other names of recipe values."""

TIMELINE_KEYS = ("name", "file", "steps", "keyframes")
"""What a timeline says beside the values of single keys (`learning_rate@500`)."""


class Section(BaseModel):
    """Base of a recipe and its sections: unknown names are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EarlyStopping(Section):
    """Stop after `patience` epochs without `monitor` improving by more than `min_delta`.

    The epoch counts as better only if it is strictly better by `min_delta`; the best epoch's weights are
    restored. `mode: auto` minimizes losses and follows the study's direction for its metric.
    """

    monitor: str = "val_loss"
    patience: Count = 10
    min_delta: NonNegative = 0.0
    mode: Direction = "auto"


class SchedulerConfigs(Section):
    """When the scheduler steps (every `frequency` epochs or steps) and what a plateau scheduler watches."""

    interval: Literal["epoch", "step"] = "epoch"
    frequency: Count = 1
    monitor: str = "val_loss"


class Recipe(Section):
    """How one model is trained.

    `learning_rate: null` means the optimizer's default (`LEARNING_RATES`); `scheduler: auto` is a cosine over the
    run, unless a timeline moves the learning rate, and null a constant rate; `gradient_clip` bounds the gradient's
    norm over all parameters; `loss: NAME` is short for `loss_weights: {NAME: 1}`, and with neither every loss term
    weighs 1. `precision` is that of the model's arithmetic (see `training.precision`). `timeline` is a file, or what
    `tuner.timeline.parse_timeline` takes.
    """

    epochs: Count = 20
    batch_size: Count = 64
    optimizer: str = "Adam"
    learning_rate: Positive | None = None
    optimizer_kwargs: dict[str, Any] = {}
    scheduler: str | None = "auto"
    scheduler_kwargs: dict[str, Any] = {}
    scheduler_configs: SchedulerConfigs = SchedulerConfigs()
    gradient_clip: Positive | None = None
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    early_stopping: EarlyStopping | None = None
    loss: str | None = None
    loss_weights: dict[str, NonNegative] = {}
    lr_multipliers: dict[str, NonNegative] = {}
    timeline: str | dict[str, Any] | None = None
    seed: Seed = 0
    data_seed: Seed = 0
    dropout_seed: Seed = 0
    model: dict[str, Any] = {}
    data: dict[str, Any] = {}

    def flat(self) -> dict[str, Any]:
        """Every value by its dotted path, sections opened one level: `{'model.channels': 16, ...}`.

        A timeline stands by its name, where it has one, beside the single keys that are set.
        """
        nested = self.model_dump()
        timeline = nested.pop("timeline")
        found = flatten(nested)
        if isinstance(timeline, Mapping):
            found |= {f"timeline.{key}": value for key, value in timeline.items() if "@" in key}
            timeline = timeline.get("name") or timeline.get("file") or timeline
        return {**found, "timeline": timeline}

    def with_values(self, values: Mapping[str, Any], place: str = "recipe") -> Recipe:
        """This recipe with the values at dotted paths replaced.

        Raises `SearchSpaceError` for an unknown path or a value out of bounds.
        """
        nested = self.model_dump()
        for path in sorted(values, key=lambda path: "." in path):  # a section before what stands in it
            set_path(nested, path, values[path], place)
        return parse_recipe(nested, place)

    def with_defaults(self) -> Recipe:
        """This recipe with the optimizer's default learning rate and options, and the scheduler, written out."""
        kwargs = {**OPTIMIZER_KWARGS.get(self.optimizer, {}), **self.optimizer_kwargs}
        rate = LEARNING_RATES.get(self.optimizer) if self.learning_rate is None else self.learning_rate
        scheduler = self.scheduler
        if scheduler == "auto":
            scheduler = None if "learning_rate" in timeline_columns(self.timeline) else "CosineAnnealingLR"
        return self.model_copy(update={"optimizer_kwargs": kwargs, "learning_rate": rate, "scheduler": scheduler})


def timeline_columns(timeline: str | Mapping[str, Any] | None) -> list[str]:
    """The properties that a timeline written in a recipe moves, in order; those of a file are not known here."""
    rows = timeline.get("keyframes", []) if isinstance(timeline, Mapping) else []
    names = [str(column).partition(":")[0].strip() for row in rows if isinstance(row, Mapping) for column in row]
    return [name for name in dict.fromkeys(names) if name not in ("STEP", "PHASE", "ACTION")]


def canonical(values: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """`values` by dotted path or nested, an alias replaced by what it stands for.

    Raises `SearchSpaceError` where both are given.
    """
    found: dict[str, Any] = {}
    for path, value in values.items():
        target = ALIASES.get(path, path)
        section, _, name = target.partition(".")
        nested = values.get(section)
        if target != path and (target in values or (isinstance(nested, Mapping) and name in nested)):
            raise SearchSpaceError(f"is another name of {target}: give one of the two", place=below(place, path))
        found[target] = value
    return found


def flatten(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted path, dictionaries opened one level; an empty dictionary has no paths."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{name}": entry for name, entry in value.items()})
        else:
            flat[key] = value
    return flat


def set_path(nested: dict[str, Any], path: str, value: Any, place: str) -> None:
    """Set the value at a dotted path in place; `SearchSpaceError` for a path that no recipe has."""
    check_path(path, place)
    section, _, name = path.partition(".")
    if name:
        before = nested.get(section)
        if section == "timeline" and isinstance(before, str):
            before = {"file": before}
        if path in ("timeline.file", "timeline.keyframes"):
            before = None  # another timeline, of which nothing of this one is left
        if before is not None and not isinstance(before, Mapping):
            raise SearchSpaceError("must be a mapping of names to values", place=below(place, section), value=before)
        nested[section] = {**(before or {}), name: value}
    else:
        nested[section] = value


def check_path(path: str, place: str) -> None:
    """Raise `SearchSpaceError` unless `path` is a recipe field or a name within one of its sections."""
    section, _, name = path.partition(".")
    if section not in Recipe.model_fields or path.endswith("."):
        hint = did_you_mean(section, Recipe.model_fields) if name else did_you_mean(path, known_paths())
        raise SearchSpaceError(f"a recipe has no field '{path}'", place=place, hint=hint)
    if name and section not in OPEN_SECTIONS:
        fields = section_fields(section)
        if name not in fields:
            raise SearchSpaceError(f"'{section}' has no field '{name}'", place=place, hint=did_you_mean(name, fields))


def section_fields(section: str) -> list[str]:
    """The fields of a closed section such as `early_stopping`; empty for a plain value."""
    return list(closed_sections().get(section, Section).model_fields)


def closed_sections() -> dict[str, type[Section]]:
    """Recipe fields that hold a section with fields of its own."""
    return {"early_stopping": EarlyStopping, "scheduler_configs": SchedulerConfigs}


def known_paths() -> list[str]:
    """Every path a recipe has by itself; names within open sections come from torch and the task."""
    paths = [*Recipe.model_fields, *ALIASES]
    for section in closed_sections():
        paths += [f"{section}.{name}" for name in section_fields(section)]
    return paths


def value_type(path: str, recipe: Mapping[str, Any]) -> str | None:
    """'int', 'float' or 'categorical' for a range or choice at `path`; None where the recipe does not say.

    `recipe` maps paths to the recipe's fixed values: within `model` and `data` their type decides.
    """
    section, _, name = path.partition(".")
    if name and section in OPEN_SECTIONS:
        if section in ("loss_weights", "lr_multipliers", "timeline"):
            return "float"
        if section in ("optimizer_kwargs", "scheduler_kwargs"):
            return "int" if name in INTEGER_OPTIONS else "float"
        fixed = recipe.get(path)
        if isinstance(fixed, (bool, str)):
            return "categorical"
        return {int: "int", float: "float"}.get(type(fixed))
    owner = closed_sections()[section] if name else Recipe
    field = owner.model_fields[name or section]
    kinds = _plain_types(field.annotation)
    if float in kinds:
        return "float"
    return "int" if int in kinds else "categorical"


def _plain_types(annotation: Any) -> set[Any]:
    """The plain types within an annotation: `Annotated[int, ...] | None` gives `{int, NoneType}`."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _plain_types(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_plain_types(part) for part in typing.get_args(annotation)))
    if origin is dict:
        return {dict} | _plain_types(typing.get_args(annotation)[1])
    return {annotation}


def parse_recipe(values: Mapping[str, Any], place: str = "recipe") -> Recipe:
    """A recipe from plain values; `SearchSpaceError` names the field, the rule and the value."""
    values = _nested(canonical(values, place), place)
    if values.get("loss") is not None and values.get("loss_weights"):
        raise SearchSpaceError(
            "`loss: NAME` is short for `loss_weights: {NAME: 1}`: give one of the two",
            place=below(place, "loss"),
            value=values["loss"],
        )
    return parse_section(Recipe, values, place)


def _nested(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """`values` with the dotted paths that aliases stand for put into their sections."""
    nested = {path: value for path, value in values.items() if path not in ALIASES.values()}
    for path in ALIASES.values():
        if path in values:
            set_path(nested, path, values[path], place)
    return nested


def parse_section(model: type[T], values: object, place: str) -> T:
    """Validate `values` as a `model`; the first problem becomes a `SearchSpaceError` at its path."""
    if not isinstance(values, Mapping):
        raise SearchSpaceError("must be a mapping of names to values", place=place, value=values)
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise _first_problem(model, error, place) from None


def _first_problem(model: type[BaseModel], error: ValidationError, place: str) -> SearchSpaceError:
    problem = error.errors(include_url=False)[0]
    trail = [str(part) for part in problem["loc"]]
    path = below(place, ".".join(trail))
    if problem["type"] == "extra_forbidden":
        fields = _owner(model, trail).model_fields
        return SearchSpaceError("there is no such key", place=path, hint=did_you_mean(trail[-1], fields))
    if problem["type"] == "missing":
        return SearchSpaceError("is required", place=path)
    mapping = problem["type"] in ("dict_type", "model_type", "dict_attributes_type")
    rule = "must be a mapping of names to values" if mapping else problem["msg"]
    return SearchSpaceError(rule, place=path, value=problem["input"])


def _owner(model: type[BaseModel], trail: list[str]) -> type[BaseModel]:
    """The section that the last name of `trail` stands in."""
    for name in trail[:-1]:
        field = model.model_fields.get(name)
        nested = _plain_types(field.annotation) if field else set()
        model = next((kind for kind in nested if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return model


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


def loss_weights(recipe: Recipe, terms: tuple[str, ...]) -> dict[str, float]:
    """The weight of every loss term: as the recipe says, or 1 each where it says nothing."""
    if recipe.loss is not None:
        return {name: float(name == recipe.loss) for name in terms}
    if recipe.loss_weights:
        return {name: recipe.loss_weights.get(name, 0.0) for name in terms}
    return dict.fromkeys(terms, 1.0)
