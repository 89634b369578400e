"""Program: what the trials of one shape have in common, and their model as a function of stacked tensors."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, LifoQueue
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from tuner.probe import build_model
from tuner.recipe import Recipe
from tuner.tasks.base import Batch, Data, Task, mapped
from tuner.training.batches import steps_per_epoch
from tuner.training.fused.dropout import MemberDropout
from tuner.training.fused.layout import Layout
from tuner.training.fused.passes import Passes
from tuner.training.precision import forward_in, matrices_in

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Outcome:
    """What a forward pass of a stack gives, a row a trial.

    `loss` is the weighted loss (trials,), `terms` the batch's mean of every loss term (trials x terms); `metrics` are
    (total, number) pairs of (trials,) each, by name.
    """

    loss: Tensor
    terms: Tensor
    metrics: Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Step:
    """What a training pass gives: its outcome, the gradients by parameter (None for one that the loss does not reach),

    and the changed buffers, each with the trials first.
    """

    outcome: Outcome
    gradients: Mapping[str, Tensor | None]
    changed: Mapping[str, Tensor]


class _Caller(nn.Module):
    """A module that calls any function of its model, so that `functional_call` reaches more than `forward`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(self.model, *arguments)


class Program:
    """The model of one shape as a function of its tensors, over a stack of trials.

    `layout` says which of its tensors are trained; the `others`, frozen parameters and buffers, are handed in beside
    them, and those of `changing` come back changed by a training pass (the averages of BatchNorm). `drops` and `traces`
    say whether the model has dropout and the task traces something, `bytes_per_member` what a step holds in memory;
    `reached` has the parameters that each loss term reaches. With `within`, gradients are taken within vmap, which some
    layers need (LSTM, GRU), and others are slower by. Passes are recorded once all of this is `settled`.
    """

    def __init__(self, task: Task, data: Data, recipe: Recipe, terms: tuple[str, ...], device: torch.device) -> None:
        self.task, self.data, self.terms, self.device = task, data, terms, device
        self.batch_size, self.precision = recipe.batch_size, recipe.precision
        self.steps_per_epoch = steps_per_epoch(data.train, recipe.batch_size)
        self._model = build_model(task, recipe).to(device)
        self._spare: LifoQueue[_Caller] = LifoQueue()
        self.layout = Layout.of(self._model)
        self.changing: frozenset[str] = frozenset()
        self.bytes_per_member = 0
        self.drops, self.traces, self.has_drawn = True, True, False
        self.within = False
        self.settled = False
        self.passes = Passes(device)
        self.reached: dict[str, frozenset[str]] = {}

    def leave_out(self, idle: Collection[str]) -> None:
        """Take parameters that no loss reaches out of the row: torch's optimizers leave them alone, too."""
        self.layout = Layout.of(self._model, idle)

    def others_of(self, model: nn.Module) -> dict[str, Tensor]:
        """Copies of a model's frozen parameters and buffers, by name, on the device."""
        found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        return {
            name: tensor.detach().to(self.device, copy=True)
            for name, tensor in found.items()
            if name not in self.layout.names
        }

    def state_names(self) -> dict[str, str]:
        """The names of a model's `state_dict`, each with the parameter or buffer that it is (tied ones share one)."""
        names = {id(tensor): name for name, tensor in (*self._model.named_parameters(), *self._model.named_buffers())}
        state = self._model.state_dict(keep_vars=True)
        return {key: names[id(tensor)] for key, tensor in state.items() if id(tensor) in names}

    @contextlib.contextmanager
    def _caller(self, training: bool) -> Iterator[_Caller]:
        """A model of its own for each thread that calls it: its tensors are put in their places while it runs."""
        try:
            caller = self._spare.get_nowait()
            if caller.training != training:
                caller.train(training)
        except Empty:
            caller = _Caller(copy.deepcopy(self._model)).train(training)
        try:
            yield caller
        finally:
            self._spare.put(caller)

    def train(
        self,
        parameters: Tensors,
        others: Tensors,
        state: Tensors,
        batch: Any,
        weights: Tensor,
        keys: Tensor,
        used: Sequence[int],
    ) -> Step:
        """A training pass and its gradients.

        All tensors have the trials first; `batch` is (inputs, targets), `weights` trials x terms, `keys` what dropout
        is drawn from (trials,), int64; `used` are the terms that are not of weight 0.
        """
        arguments = (parameters, others, state, batch, weights, keys)
        with matrices_in(self.precision, self.device), self._caller(training=True) as caller:
            trained = partial(self._trained, caller, used)
            loss, terms, metrics, gradients, changed = self._run(("train", *used), trained, *arguments)
        return Step(Outcome(loss, terms, metrics), gradients, changed)

    def _trained(
        self, caller: _Caller, used: Sequence[int], parameters: Tensors, others: Tensors, state: Tensors, *rest: Any
    ) -> tuple[Tensor, Tensor, Any, Tensors, Tensors]:
        """Losses, terms, metrics, gradients and changed buffers."""
        others = {name: tensor.clone() if name in self.changing else tensor for name, tensor in others.items()}
        parameters = {name: tensor.detach().requires_grad_(not self.within) for name, tensor in parameters.items()}

        def loss_of(parameters: Tensors, others: Tensors, state: Tensors, pair: Any, weights: Tensor, key: Tensor):  # type: ignore[no-untyped-def]
            batch, dropout = Batch(*pair), MemberDropout(key)
            with dropout if self.drops else contextlib.nullcontext():
                output = self._call(caller, {**parameters, **others}, self.task.forward, batch)
            self.has_drawn |= dropout.drawn > 0
            return self._outcome(output, batch, state, weights, used)

        arguments = (parameters, others, state, *rest)
        with forward_in(self.precision, self.device):
            if self.within:
                gradients, (loss, about) = _vmapped(torch.func.grad_and_value(loss_of, has_aux=True), *arguments)
            else:
                loss, about = _vmapped(loss_of, *arguments)
        if not self.within:
            given = torch.autograd.grad(loss.sum(), list(parameters.values()), allow_unused=True)
            gradients = dict(zip(parameters, given, strict=True))
        return loss.detach(), *about, gradients, {name: others[name] for name in self.changing}

    def validate(
        self,
        parameters: Tensors,
        others: Tensors,
        state: Tensors,
        batch: Any,
        weights: Tensor,
        used: Sequence[int],
    ) -> Outcome:
        """The loss of a validation batch, as `train` takes it."""
        arguments = (parameters, others, state, batch, weights)
        with torch.no_grad(), matrices_in(self.precision, self.device), self._caller(training=False) as caller:
            return Outcome(*self._run(("validate", *used), partial(self._validated, caller, used), *arguments))

    def _validated(self, caller: _Caller, used: Sequence[int], *arguments: Any) -> tuple[Tensor, Tensor, Any]:
        """Losses, terms and metrics."""

        def one(parameters: Tensors, others: Tensors, state: Tensors, pair: Any, weights: Tensor) -> Any:
            batch = Batch(*pair)
            output = self._call(caller, {**parameters, **others}, self.task.predict, batch.inputs)
            return self._outcome(output, batch, state, weights, used)

        with forward_in(self.precision, self.device):
            if self.within:  # some layers are taken apart for a gradient only
                _, (loss, about) = _vmapped(torch.func.grad_and_value(one, has_aux=True), *arguments)
            else:
                loss, about = _vmapped(one, *arguments)
        return loss, *about

    def _run(self, name: Hashable, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.passes.run(name, function, *arguments) if self.settled else function(*arguments)

    @torch.no_grad()
    def trace(self, parameters: Tensors, others: Tensors) -> dict[str, Tensor]:
        """What the task traces of each trial's model, by name: trials x ..."""
        with self._caller(training=False) as caller:

            def one(parameters: Tensors, others: Tensors) -> dict[str, Tensor]:
                found: dict[str, Tensor] = self._call(caller, {**parameters, **others}, self.task.trace)
                return {name: tensor.detach() for name, tensor in found.items()}

            found: dict[str, Tensor] = _vmapped(one, parameters, others)
            return found

    @torch.no_grad()
    def act(self, name: str, tensors: Tensors, state: Tensors) -> dict[str, Tensor]:
        """What a timeline's action changes in one trial's `state`; changes of its weights are made in `tensors`."""
        with self._caller(training=True) as caller:

            def act(model: nn.Module) -> dict[str, Tensor]:
                return self.task.on_action(name, model, state)

            found: dict[str, Tensor] = self._call(caller, tensors, act)
            return found

    def _call(self, caller: _Caller, tensors: Tensors, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function of the model with its tensors in place; `ValueError` for a model that puts others there itself."""
        named = {f"model.{name}": tensor for name, tensor in tensors.items()}
        given = dict(named)
        found = functional_call(caller, named, (function, *arguments))
        for name, tensor in given.items():
            if named[name] is not tensor:  # else what the model keeps there would be lost
                short = name.removeprefix("model.")
                raise ValueError(f"it replaces '{short}', which must be changed in place: {short}.copy_(...)")
        return found

    def _outcome(self, output: Any, batch: Batch, state: Tensors, weights: Tensor, used: Sequence[int]) -> Any:
        """The weighted loss of one trial, and beside it the terms and the metrics.

        A term of weight 0 has no part in the loss, so that its NaN stays out, of its gradient too.
        """
        losses = self.task.losses(output, batch, state)
        terms = [losses[name].mean() for name in self.terms]
        loss = sum(
            (weights[number] * terms[number] for number in used), torch.stack(terms).sum() * 0.0 if not used else 0.0
        )
        metrics = {
            name: (total.detach(), torch.as_tensor(number))
            for name, (total, number) in self.task.metrics(output, batch).items()
        }
        return loss, (torch.stack(terms).detach(), metrics)


def _vmapped(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function` over the first dimension of all tensors in the arguments."""
    first: Any = lambda tensor: 0  # noqa: E731
    return vmap(function, in_dims=mapped(first, arguments))(*arguments)
