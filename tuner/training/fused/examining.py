"""Examining: whether trials of a shape can train fused, and what is to be known of it before.

A model that vmap refuses is soon found. What it does not notice are models that do more than compute: count, draw,
replace their buffers. Those must be refused too, for they would train wrongly without a word.
"""

from __future__ import annotations

import contextlib
import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuner.knobs import knobs_of
from tuner.optimizers.by_torch import why_not
from tuner.probe import build_model
from tuner.recipe import Recipe, loss_weights
from tuner.tasks.base import Data, Task
from tuner.training.batches import training_batches, validation_batches
from tuner.training.fused.dropout import MemberDropout
from tuner.training.fused.member import Member
from tuner.training.fused.part import LEAST_ROWS, Part
from tuner.training.fused.program import Program
from tuner.training.precision import forward_in
from tuner.training.randomness import seed_generators, undisturbed
from tuner.training.run import Goal
from tuner.training.standing import copied

STEPS = 2
"""So many fused steps are tried: the second would meet what the first left behind in the model."""

TOLERANCE = {"float32": 1e-3, "tf32": 1e-2, "bf16": 1e-1}
"""How far, relatively, a fused step may be from the plain one: rounding is far below, a model that misbehaves above."""

LONGEST_REASON = 200
"""Characters of an error that are told."""


class NotFusableError(ValueError):
    """Says why a shape cannot train fused."""


def examined(
    task: Task, data: Data, recipe: Recipe, goal: Goal, terms: tuple[str, ...], device: torch.device
) -> Program:
    """The program of a recipe's shape, tried for a few steps; `NotFusableError` says why there is none."""
    reason = why_not(recipe.optimizer) if task.fusable else "the task says fusable = False"
    if reason:
        raise NotFusableError(reason)
    even = recipe.model_copy(update={"loss": None, "loss_weights": {}, "timeline": None})
    try:
        with undisturbed(device), warnings.catch_warnings():
            # torch says once of what vmap does one by one: what that costs is measured, not warned of.
            warnings.filterwarnings("ignore", "There is a performance drop")
            program = Program(task, data, even, terms, device)
            with _unassigned(task):
                expected = _prepare(program, even)
            try:
                _try(program, even, goal, expected)
            except RuntimeError as error:
                if "Batching rule not implemented" not in str(error):
                    raise
                program.within = True
                _try(program, even, goal, expected)
            program.settled = True
    except Exception as error:  # whatever a user's model raises under vmap
        lines = str(error).strip().splitlines()
        kind = "" if isinstance(error, NotFusableError) else f"{type(error).__name__}: "
        raise NotFusableError(f"{kind}{lines[0] if lines else ''}"[:LONGEST_REASON]) from error
    return program


def _prepare(program: Program, recipe: Recipe) -> tuple[float, float]:
    """See by a plain step what the model does; gives the loss and the gradient's norm.

    Notes which parameters each loss term reaches and which buffers the model changes; dropout is drawn as a member's.
    """
    task, device = program.task, program.device
    seed_generators(device, "weights", recipe.seed)
    model = build_model(task, recipe).to(device).train()
    _check_state(model)
    if any(getattr(part, "padding_idx", None) is not None for part in model.modules()):
        raise NotFusableError("its embedding has a padding_idx, which vmap overlooks")
    properties, kept = {**recipe.data, "phase": ""}, _content(vars(task))
    batch = next(training_batches(task, program.data.train, recipe, 0, device, lambda step: properties))
    before, buffers = _attributes(model), _buffers(model)
    dropout = MemberDropout(torch.zeros((), dtype=torch.int64, device=device))
    with forward_in(program.precision, device), _undrawn(), dropout:
        output = task.forward(model, batch)
        losses = task.losses(output, batch, copied(device, task.state()))
        task.metrics(output, batch)
    terms = {name: losses[name].mean() for name in program.terms}
    after = _buffers(model)
    if after.keys() != buffers.keys():
        names = ", ".join(sorted(after.keys() ^ buffers.keys()))
        raise NotFusableError(f"its forward makes or drops a buffer: {names}")
    program.changing = frozenset(name for name in after if after[name] != buffers[name])
    _check_attributes(before, model, "its forward")
    trained = {name: entry for name, entry in model.named_parameters() if entry.requires_grad}
    if any(entry._backward_hooks for entry in trained.values()):
        raise NotFusableError("its parameters have gradient hooks")
    for name, term in terms.items():
        found = _gradients(term, list(trained.values()))
        reached = (key for key, gradient in zip(trained, found, strict=True) if gradient is not None)
        program.reached[name] = frozenset(reached)
    program.leave_out(trained.keys() - frozenset().union(*program.reached.values()))
    buffers = _buffers(model)
    _look_on(program, recipe, model)
    if _buffers(model) != buffers:
        raise NotFusableError("its forward changes a buffer in validation")
    _check_attributes(before, model, "its forward in validation", training=False)
    loss = torch.stack(list(terms.values())).sum()
    gradients = [entry for entry in _gradients(loss, list(trained.values())) if entry is not None]
    norm = float(nn.utils.get_total_norm(gradients))
    for action in task.actions:
        with torch.no_grad():
            task.on_action(action, model.train(), copied(device, task.state()))
        _check_attributes(before, model, f"its action '{action}'")
    if _content(vars(task)) != kept:
        raise NotFusableError("its task keeps something on itself that a step or an action changes")
    return float(loss.detach()), norm


@torch.no_grad()
def _look_on(program: Program, recipe: Recipe, model: nn.Module) -> None:
    """Validation and traces must not draw."""
    task = program.task
    batch = next(validation_batches(program.data.validation, recipe, program.device))
    model.eval()
    with _undrawn():
        task.metrics(task.predict(model, batch.inputs), batch)
        task.trace(model)


def _gradients(loss: Tensor, leaves: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    if not loss.requires_grad:
        return (None,) * len(leaves)
    return torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)


def _buffers(model: nn.Module) -> dict[str, Any]:
    """What tells whether buffers were written to: batch normalisation writes without counting a version."""
    return {name: (buffer._version, _content(buffer.detach().cpu())) for name, buffer in model.named_buffers()}


def _check_state(model: nn.Module) -> None:
    """Weights are kept by the names of parameters and buffers: a tensor of another kind would be lost."""
    known = {id(entry) for entry in (*model.parameters(), *model.buffers())}
    for name, entry in model.state_dict(keep_vars=True).items():
        if isinstance(entry, Tensor) and id(entry) not in known:
            raise NotFusableError(f"its state_dict has a tensor '{name}' that is neither parameter nor buffer")


def _attributes(model: nn.Module) -> dict[tuple[str, str], Any]:
    """What the model's parts keep in plain attributes."""
    return {
        (path, name): _content(value)
        for path, part in model.named_modules()
        for name, value in vars(part).items()
        if name not in ("_parameters", "_buffers", "_modules")
    }


def _check_attributes(before: dict[tuple[str, str], Any], model: nn.Module, what: str, training: bool = True) -> None:
    """Raise `NotFusableError` where something else stands in an attribute than before."""
    after = _attributes(model)
    names = {key for key, _ in before.items() ^ after.items() if training or key[1] != "training"}
    if names:
        changed = ", ".join(sorted(".".join(filter(None, key)) for key in names))
        raise NotFusableError(f"{what} changes what is neither parameter nor buffer: {changed}")


def _content(value: Any) -> Any:
    """Something that is equal as long as nothing in a value is changed."""
    if isinstance(value, (bool, int, float, str, bytes, type(None))):
        return value
    try:
        return pickle.dumps(value)
    except Exception:  # whatever cannot be pickled
        return id(value), len(value) if hasattr(value, "__len__") else 0


@contextlib.contextmanager
def _unassigned(task: Task) -> Iterator[None]:
    """A block in which nothing may be assigned to the task: all trials share it."""
    kind, names = type(task), set()

    class Watched(kind):  # type: ignore[misc, valid-type]
        def __setattr__(self, name: str, value: Any) -> None:
            names.add(name)
            super().__setattr__(name, value)

    task.__class__ = Watched
    try:
        yield
    finally:
        object.__setattr__(task, "__class__", kind)
    if names:
        raise NotFusableError(f"its task keeps what a step needs on itself: {', '.join(sorted(names))}")


class _undrawn:  # noqa: N801
    """A block that must not draw from Python's, NumPy's or torch's global generators."""

    def __enter__(self) -> None:
        self._before = _drawn()

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None and _drawn() != self._before:
            raise NotFusableError("its forward or its losses draw random numbers other than dropout's")


def _drawn() -> tuple[Any, ...]:
    return random.getstate(), repr(np.random.get_state()), torch.default_generator.get_state().tolist()


def _try(program: Program, recipe: Recipe, goal: Goal, expected: tuple[float, float]) -> None:
    """Train a few steps as a group of two, validate, trace and act, as a search would.

    Raises what the model or the task raises, and `NotFusableError` for a first step that is another than the plain one.
    """
    members = [Member(program, recipe, goal, lambda member: []) for _ in range(2)]
    part = Part(members)
    part.build()
    part.zero_keys()
    if program.within:  # whose gradients take no notes
        part.take_steps(1)
    else:
        program.bytes_per_member = _bytes_held(lambda: part.take_steps(1)) // LEAST_ROWS
    found = float(part.last_loss), float(part.sums.norm[0])  # type: ignore[index]
    for what, alone, fused in zip(("loss", "gradient's norm"), expected, found, strict=True):
        if not np.isclose(alone, fused, rtol=TOLERANCE[program.precision], atol=1e-6, equal_nan=True):
            raise NotFusableError(f"its {what} is {fused:.6g} fused and {alone:.6g} alone")
    part.take_steps(STEPS - 1)
    program.drops, program.traces = program.has_drawn, bool(part.traced())
    part.validated(batches=1)
    for action in program.task.actions:
        _try_action(program, action, members[0])
    part.release()


def _try_action(program: Program, name: str, member: Member) -> None:
    """An action may change a model's numbers in place, and the task's state: nothing else is seen in a group."""
    trained = program.layout.names
    tensors = {key: entry.detach().clone().requires_grad_(key in trained) for key, entry in member.tensors().items()}
    places = {key: (entry.data_ptr(), entry.requires_grad) for key, entry in tensors.items()}
    state = {key: entry.clone() for key, entry in member.state.items()}
    changed = program.act(name, tensors, state)
    if {key: (entry.data_ptr(), entry.requires_grad) for key, entry in tensors.items()} != places:
        raise NotFusableError(f"its action '{name}' replaces or freezes parameters")
    for key, entry in changed.items():
        if key not in state or (entry.shape, entry.dtype) != (state[key].shape, state[key].dtype):
            raise NotFusableError(f"its action '{name}' gives a state '{key}' that is not of the form it has")


def _bytes_held(step: Callable[[], None]) -> int:
    """The memory of all that a step's forward pass keeps for the backward pass."""
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    return sum(held.values())


def changing_reach(program: Program, recipe: Recipe) -> str:
    """Why a recipe whose loss terms come and go cannot train fused: "" if all of its steps train the same parameters.

    torch's optimizers count a parameter's steps from its first gradient, and members of a group all theirs alike.
    """
    everything = frozenset().union(*program.reached.values())
    reaches = {
        frozenset().union(*(program.reached[name] for name in used)) if used else everything
        for used in _used_terms(program, recipe)
    }
    return "" if len(reaches) == 1 else "the parameters that its loss reaches change with the loss weights"


def _used_terms(program: Program, recipe: Recipe) -> Iterator[frozenset[str]]:
    """The loss terms of weight above 0, at each step at which they may be others."""
    weights = loss_weights(recipe, program.terms)
    steps = recipe.epochs * program.steps_per_epoch
    knobs = knobs_of(recipe, steps, program.terms, program.task.properties)
    scheduled = {path.partition(".")[2]: path for path in knobs.paths.values() if path.startswith("loss_weights.")}
    for step in range(steps if scheduled else 1):
        values = knobs.at(step)
        now = weights | {name: values[path] for name, path in scheduled.items()}
        yield frozenset(name for name, weight in now.items() if weight)
