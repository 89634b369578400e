"""Examining: whether a shape can train fused, and what is to be known of it before."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tuner.optimizers.by_torch import why_not
from tuner.probe import build_model
from tuner.recipe import Recipe
from tuner.tasks.base import Data, Task
from tuner.training.batches import training_batches
from tuner.training.fused.member import Member
from tuner.training.fused.part import Part
from tuner.training.fused.program import Program
from tuner.training.randomness import undisturbed
from tuner.training.run import Goal
from tuner.training.standing import copied

STEPS = 2
"""So many fused steps are tried: the second would meet what the first left behind in the model."""

TOLERANCE = 1e-3
"""How far, relatively, a fused loss may be from the plain one: rounding is far below, a model that misbehaves above."""


LONGEST_REASON = 200
"""Characters of an error that are told."""


class NotFusableError(ValueError):
    """Says why a shape cannot train fused."""


def examined(
    task: Task, data: Data, recipe: Recipe, goal: Goal, terms: tuple[str, ...], device: torch.device
) -> Program:
    """The program of a recipe's shape, tried for a few steps; `NotFusableError` says why there is none."""
    if not task.fusable:
        raise NotFusableError("the task says fusable = False")
    reason = why_not(recipe.optimizer)
    if reason:
        raise NotFusableError(reason)
    try:
        with undisturbed(device):
            program = Program(task, data, recipe, terms, device)
            _try(program, recipe, goal, _prepare(program, recipe))
    except Exception as error:  # whatever a user's model raises under vmap
        lines = str(error).strip().splitlines()
        raise NotFusableError(f"{type(error).__name__}: {lines[0] if lines else ''}"[:LONGEST_REASON]) from error
    return program


def _prepare(program: Program, recipe: Recipe) -> Tensor:
    """See by a plain step which parameters a loss reaches, and which buffers the model changes; gives the loss."""
    task = program.task
    model = build_model(task, recipe).to(program.device).train()
    properties = {**recipe.data, "phase": ""}
    batch = next(training_batches(task, program.data.train, recipe, 0, program.device, lambda step: properties))
    before = {name: buffer._version for name, buffer in model.named_buffers()}
    state = copied(program.device, task.state())
    terms = task.losses(task.forward(model, batch), batch, state)
    loss = torch.stack([term.mean() for term in terms.values()]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    program.changing = frozenset(name for name, buffer in model.named_buffers() if buffer._version != before[name])
    program.leave_out({name for name, parameter in model.named_parameters() if parameter.grad is None})
    return loss.detach()


def _try(program: Program, recipe: Recipe, goal: Goal, expected: Tensor) -> None:
    """Train a few steps as a group of two, validate, trace and act, as a search would.

    Raises what the model or the task raises, and `ValueError` for a loss that is another than the plain one.
    """
    even = recipe.model_copy(update={"loss": None, "loss_weights": {}, "timeline": None})
    members = [Member(program, even, goal, lambda member: []) for _ in range(2)]
    part = Part(members)
    program.bytes_per_member = _bytes_held(lambda: part.take_steps(1)) // 2
    part.take_steps(STEPS - 1)
    program.drops, program.traces = program.has_drawn, bool(part.traced())
    part.validated(batches=1)
    for action in program.task.actions:
        member = members[0]
        program.act(action, member.tensors(), member.state)
    part.write_back(members[0])
    first = members[0].series.array()
    if not program.drops and not torch.allclose(torch.tensor(first[0, -2]), expected.float().cpu(), rtol=TOLERANCE):
        raise ValueError(f"its loss is {first[0, -2]:.6g} fused and {float(expected):.6g} alone")


def _bytes_held(step: Callable[[], None]) -> int:
    """The memory of all that a step's forward pass keeps for the backward pass."""
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    return sum(held.values())
