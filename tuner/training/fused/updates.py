"""Updates: what an optimizer does to rows; trials of one rule as matrices, those of other optimizers one by one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tuner.optimizers.by_torch import ByTorch
from tuner.optimizers.rule import Rule, complete, find_rule
from tuner.recipe import Recipe
from tuner.training.fused.layout import Layout
from tuner.training.fused.plan import Plan

if TYPE_CHECKING:
    from tuner.training.fused.member import Member

ANYTHING = np.array([0.0, 1.0])
"""Stands for the values of an option that changes over the run: it may be 0 at times, and other than 0 at others."""


class Update(Protocol):
    """One trial's optimizer: its state, and which others it can be updated with (those of equal `kind`)."""

    kind: tuple[str, ...]

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def take_over(self, other: Any) -> None:
        """Stand where another of this kind does."""


class RowUpdate:
    """A trial whose optimizer is a rule on rows; `slots` are the rule's rows (width,), by name."""

    def __init__(self, rule: Rule, options: Mapping[str, Any], row: Tensor, owners: Tensor) -> None:
        self.rule = rule
        self.kind: tuple[str, ...] = ("by rule", rule.name, *map(str, rule.variant))
        self.slots = {name: torch.full_like(row, value) for name, value in rule.first(options).items()}
        self.owners = owners if bool(owners.any()) else None

    def state_dict(self) -> dict[str, Any]:
        return dict(self.slots)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, slot in self.slots.items():
            slot.copy_(state[name])

    def take_over(self, other: RowUpdate) -> None:
        self.slots = other.slots  # every epoch copies them to matrices of its own


class TorchUpdate:
    """A trial whose optimizer is torch's own."""

    def __init__(self, optimizer: ByTorch, name: str) -> None:
        self.optimizer = optimizer
        self.kind: tuple[str, ...] = ("by torch", name)

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

    def take_over(self, other: TorchUpdate) -> None:
        self.optimizer.load_state_dict(other.state_dict())


def update_for(
    recipe: Recipe, moved: Collection[str], row: Tensor, layout: Layout, model: nn.Module, optimizer: Optimizer
) -> Update:
    """What updates a trial's row: a rule where there is one for the optimizer and its options, or torch itself.

    `moved` are the options that change over the run; `optimizer` is torch's own, over `model`, before its first step.
    """
    name = recipe.optimizer
    options = complete(name, recipe.optimizer_kwargs)
    found = ("beta1" if option == "momentum" and "beta1" in options else option for option in moved)
    anything = dict.fromkeys(found, ANYTHING)
    rule = find_rule(name, options | anything)
    if rule is not None and row.dtype in (torch.float32, torch.float64):
        owners = layout.owners(optimizer.param_groups, model).to(row.device)
        return RowUpdate(rule, options, row, owners)
    parameters = dict(model.named_parameters())
    return TorchUpdate(ByTorch(optimizer, [parameters[entry] for entry in layout.names], layout.starts), name)


class Crew(Protocol):
    """Rows of a part that are updated together."""

    def step(self, step: int, idle: Mapping[int, slice]) -> None:
        """Update them with the gradients of a step of the epoch, but for the columns `idle`, by their start."""


class RuleCrew:
    """Rows of one rule: weights, gradients and slots are matrices of rows x width."""

    def __init__(
        self, members: Sequence[Member], plans: Sequence[Plan], weights: Tensor, gradients: Tensor, real: int
    ) -> None:
        updates: list[RowUpdate] = [member.update for member in members]  # type: ignore[misc]
        self.program = members[0].program
        self.rule, self.weights, self.gradients = updates[0].rule, weights, gradients
        self.slots = {name: torch.stack([update.slots[name] for update in updates]) for name in self.rule.slots}
        for number, update in enumerate(updates[:real]):
            update.slots = {name: slots[number] for name, slots in self.slots.items()}
        tables = [self._table(member, plan) for member, plan in zip(members, plans, strict=True)]
        self.names = list(tables[0])
        self.scalars = torch.stack([self._tensor([table[name] for table in tables]) for name in self.names], dim=2)
        self.rates = self._rates(updates, plans)

    def _table(self, member: Member, plan: Plan) -> dict[str, np.ndarray]:
        count = len(plan.rates)
        steps = np.arange(1, count + 1) + member.epochs_done * count
        return self.rule.scalars(plan.options, steps)

    def _tensor(self, columns: Sequence[np.ndarray]) -> Tensor:
        """(steps,) of each row as steps x rows x 1."""
        numbers = torch.from_numpy(np.stack(columns, axis=1))
        return numbers.to(self.weights.device, self.weights.dtype).unsqueeze(2)

    def _rates(self, updates: Sequence[RowUpdate], plans: Sequence[Plan]) -> Tensor:
        """Steps x rows x groups."""
        most = max(plan.rates.shape[1] for plan in plans)
        padded = [np.pad(plan.rates, ((0, 0), (0, most - plan.rates.shape[1])), mode="edge") for plan in plans]
        self.owners = None
        if most > 1:
            none = torch.zeros(self.weights.shape[1], dtype=torch.int64, device=self.weights.device)
            self.owners = torch.stack([none if update.owners is None else update.owners for update in updates])
        rates = torch.from_numpy(np.stack(padded, axis=1))
        return rates.to(self.weights.device, self.weights.dtype)

    def step(self, step: int, idle: Mapping[int, slice]) -> None:
        name = ("update", self.rule.name, self.rule.variant, *idle)
        tensors = (self.weights, self.gradients, self.slots, self.rates[step], self.scalars[step], self.owners)
        self.program.run(name, partial(self._updated, list(idle.values())), *tensors)

    def _updated(
        self,
        idle: Sequence[slice],
        weights: Tensor,
        gradients: Tensor,
        slots: Mapping[str, Tensor],
        rates: Tensor,
        scalars: Tensor,
        owners: Tensor | None,
    ) -> tuple[()]:
        rate = rates if owners is None else rates.gather(1, owners)
        named = dict(zip(self.names, scalars.unbind(1), strict=True))
        still = [(view, view.clone()) for matrix in (weights, *slots.values()) for view in _in(matrix, idle)]
        self.rule.update(weights, gradients, slots, rate, named)
        for view, before in still:
            view.copy_(before)
        return ()


class TorchCrew:
    """A row of torch's own optimizer."""

    def __init__(self, update: TorchUpdate, plan: Plan, row: Tensor, gradient: Tensor) -> None:
        self.optimizer, self.plan = update.optimizer, plan
        self.optimizer.bind(row, gradient)

    def step(self, step: int, idle: Mapping[int, slice]) -> None:
        options = {name: float(values[step]) for name, values in self.plan.options.items()}
        self.optimizer.step(self.plan.rates[step].tolist(), options, idle)


def _in(matrix: Tensor, columns: Sequence[slice]) -> list[Tensor]:
    return [matrix[:, part] for part in columns]


def crews_of(
    members: Sequence[Member], rows: Sequence[Member], plans: Sequence[Plan], weights: Tensor, gradients: Tensor
) -> list[Crew]:
    """The crews of a part, whose members stand sorted by kind; `rows` are they and the last one's twins."""
    crews: list[Crew] = []
    for kind, numbers in groupby(range(len(rows)), key=lambda number: rows[number].update.kind):
        found = list(numbers)
        first, last = found[0], found[-1] + 1
        if kind[0] == "by rule":
            own = slice(first, last)
            real = min(last, len(members)) - first
            crews.append(RuleCrew(rows[own], plans[own], weights[own], gradients[own], real))
            continue
        for number in found[: len(members) - first]:
            update: TorchUpdate = rows[number].update  # type: ignore[assignment]
            crews.append(TorchCrew(update, plans[number], weights[number], gradients[number]))
    return crews
