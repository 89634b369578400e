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
from tuner.tasks.base import Batch, Data, Task, mapped, tensors_in
from tuner.training.batches import steps_per_epoch
from tuner.training.fused.dropout import MemberDropout
from tuner.training.fused.layout import Layout
from tuner.training.fused.passes import Passes
from tuner.training.precision import forward_in, matrices_in
from tuner.training.sums import Sums

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Step:
    """What a training pass gives beside the gradients.

    `losses` has the mean of every loss term in a batch, and the weighted loss last (trials x terms + 1); `sums` is what
    the batch adds to an epoch's, each (trials,); `changed` has the changed buffers, with the trials first. `idle` are
    the columns that the loss does not reach, by the first.
    """

    losses: Tensor
    sums: Mapping[str, Any]
    changed: Tensors
    idle: Mapping[int, slice]


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
        self._idle: dict[tuple[int, ...], dict[int, slice]] = {}

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
    def _caller(self) -> Iterator[_Caller]:
        """A model of its own for each thread that calls it: its tensors are put in their places while it runs."""
        try:
            caller = self._spare.get_nowait()
        except Empty:
            caller = _Caller(copy.deepcopy(self._model))
        try:
            yield caller
        finally:
            self._spare.put(caller)

    def train(
        self,
        weights: Tensor,
        gradients: Tensor,
        others: Tensors,
        state: Tensors,
        batch: Any,
        factors: Tensor,
        keys: Tensor,
        bounds: Tensor | None,
        used: tuple[int, ...],
    ) -> Step:
        """A training pass, which writes its gradients.

        All tensors have the trials first: `weights` and `gradients` are trials x width; `batch` is (inputs, targets),
        `factors` are the loss terms' (trials x terms), `keys` what dropout is drawn from (trials,), int64; `bounds` are
        the gradients' norms', trials x 1, infinite for none; `used` are the terms that are not of weight 0.
        """
        arguments = (weights, gradients, others, state, batch, factors, keys, bounds)
        with matrices_in(self.precision, self.device), self._caller() as caller:
            losses, sums, changed = self.run(("train", *used), partial(self._trained, caller, used), *arguments)
        return Step(losses, sums, changed, self._idle[used])

    def _trained(
        self,
        caller: _Caller,
        used: tuple[int, ...],
        weights: Tensor,
        gradients: Tensor,
        others: Tensors,
        state: Tensors,
        batch: tuple[Any, Any],
        factors: Tensor,
        keys: Tensor,
        bounds: Tensor | None,
    ) -> tuple[Tensor, Any, Tensors]:
        """Losses, what the batch adds to the sums, and changed buffers."""
        caller.train()
        others = {name: tensor.clone() if name in self.changing else tensor for name, tensor in others.items()}
        parameters = {
            name: tensor.detach().requires_grad_(not self.within) for name, tensor in self.layout.views(weights).items()
        }

        def loss_of(parameters: Tensors, others: Tensors, state: Tensors, pair: Any, factors: Tensor, key: Tensor):  # type: ignore[no-untyped-def]
            batch, dropout = Batch(*pair), MemberDropout(key)
            with dropout if self.drops else contextlib.nullcontext():
                output = self._call(caller, {**parameters, **others}, self.task.forward, batch)
            self.has_drawn |= dropout.drawn > 0
            return self._outcome(output, batch, state, factors, used)

        arguments = (parameters, others, state, batch, factors, keys)
        with forward_in(self.precision, self.device):
            if self.within:
                found, (loss, (terms, metrics)) = _vmapped(torch.func.grad_and_value(loss_of, has_aux=True), *arguments)
            else:
                loss, (terms, metrics) = _vmapped(loss_of, *arguments)
        if not self.within:
            given = torch.autograd.grad(loss.sum(), list(parameters.values()), allow_unused=True)
            found = dict(zip(parameters, given, strict=True))
        loss = loss.detach()
        with torch.no_grad():
            self._gather(found, gradients, used)
            norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
            if bounds is not None:
                shares = (bounds / (norms + 1e-6)).clamp(max=1.0)  # torch's own constant
                gradients.mul_(torch.where(bounds.isinf(), 1.0, shares))
            sums = self._summed(batch, loss, terms, metrics, norms[:, 0])
            losses = torch.cat([terms, loss.unsqueeze(1)], dim=1)
        return losses, sums, {name: others[name] for name in self.changing}

    def _gather(self, found: Mapping[str, Tensor | None], gradients: Tensor, used: tuple[int, ...]) -> None:
        """Bring gradients into the matrix; notes the columns of those that there are not."""
        idle = {}
        for (name, view), start in zip(self.layout.views(gradients).items(), self.layout.starts, strict=True):
            gradient = found[name]
            if gradient is None:
                view.zero_()
                idle[start] = slice(start, start + view[0].numel())
            else:
                view.copy_(gradient)
        self._idle[used] = idle

    def _summed(self, batch: tuple[Any, Any], loss: Tensor, terms: Tensor, metrics: Any, norms: Tensor | None) -> Any:
        """What a batch adds to the sums."""
        sums = Sums()
        named = dict(zip(self.terms, terms.unbind(1), strict=True))
        sums.add(len(tensors_in(batch[0])[0][0]), loss, named, metrics, norms)
        return sums.tensors()

    def validate(
        self,
        weights: Tensor,
        others: Tensors,
        state: Tensors,
        batch: Any,
        factors: Tensor,
        used: Sequence[int],
    ) -> Mapping[str, Any]:
        """What a validation batch adds to the sums; arguments as `train` takes them."""
        arguments = (weights, others, state, batch, factors)
        with torch.no_grad(), matrices_in(self.precision, self.device), self._caller() as caller:
            found: Mapping[str, Any] = self.run(("validate", *used), partial(self._validated, caller, used), *arguments)
            return found

    def _validated(
        self,
        caller: _Caller,
        used: Sequence[int],
        weights: Tensor,
        others: Tensors,
        state: Tensors,
        batch: Any,
        *rest: Any,
    ) -> Any:
        caller.eval()

        def one(parameters: Tensors, others: Tensors, state: Tensors, pair: Any, factors: Tensor) -> Any:
            batch = Batch(*pair)
            output = self._call(caller, {**parameters, **others}, self.task.predict, batch.inputs)
            return self._outcome(output, batch, state, factors, used)

        arguments = (self.layout.views(weights), others, state, batch, *rest)
        with forward_in(self.precision, self.device):
            if self.within:  # some layers are taken apart for a gradient only
                _, (loss, (terms, metrics)) = _vmapped(torch.func.grad_and_value(one, has_aux=True), *arguments)
            else:
                loss, (terms, metrics) = _vmapped(one, *arguments)
        return self._summed(batch, loss, terms, metrics, None)

    def run(self, name: Hashable, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function of tensors that have the trials first, as `Passes.run` calls it."""
        return self.passes.run(name, function, *arguments) if self.settled else function(*arguments)

    @torch.no_grad()
    def trace(self, weights: Tensor, others: Tensors) -> dict[str, Tensor]:
        """What the task traces of each trial's model, by name: trials x ..."""
        with self._caller() as caller:
            found: dict[str, Tensor] = self.run("trace", partial(self._traced, caller), weights, others)
            return found

    def _traced(self, caller: _Caller, weights: Tensor, others: Tensors) -> dict[str, Tensor]:
        caller.eval()

        def one(parameters: Tensors, others: Tensors) -> dict[str, Tensor]:
            found: dict[str, Tensor] = self._call(caller, {**parameters, **others}, self.task.trace)
            return {name: tensor.detach() for name, tensor in found.items()}

        found: dict[str, Tensor] = _vmapped(one, self.layout.views(weights), others)
        return found

    @torch.no_grad()
    def act(self, name: str, tensors: Tensors, state: Tensors) -> dict[str, Tensor]:
        """What a timeline's action changes in one trial's `state`; changes of its weights are made in `tensors`."""
        with self._caller() as caller:
            caller.train()

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

    def _outcome(self, output: Any, batch: Batch, state: Tensors, factors: Tensor, used: Sequence[int]) -> Any:
        """The weighted loss of one trial, and beside it the terms and the metrics.

        A term of weight 0 has no part in the loss, so that its NaN stays out, of its gradient too.
        """
        losses = self.task.losses(output, batch, state)
        terms = [losses[name].mean() for name in self.terms]
        loss = sum(
            (factors[number] * terms[number] for number in used), torch.stack(terms).sum() * 0.0 if not used else 0.0
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
