"""The six models that `fusion.py` and `gpu.py` train: what each is, and all that is needed to train it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tuner.probe import build_model
from tuner.recipe import Recipe, loss_weights
from tuner.resolve import resolve
from tuner.search_space import find_target
from tuner.search_space.build import plain_space
from tuner.tasks import load_task
from tuner.tasks.base import Batch, Data, Samples, mapped
from tuner.training.run import Goal
from tuner.training.trainer import Trainer

CLIP = 1.0
"""The bound on the gradient's norm."""

SLOWEST_RATE = 0.1
"""Learning rates are drawn, evenly in their logarithm, from so many times the recipe's own up to that."""

Loss = Callable[[Any, Batch], Tensor]
"""The scalar loss of a model's output and its batch."""


@dataclass(frozen=True)
class Case:
    """One of the models: `trials` of it train fused, and are to be `aim` times as fast as the tutorial's loop.

    Both stand by the device: two CPU cores, or an H100. `loss` is what one would write by hand, if that is less than
    the task's own; `augments` says that batches are changed at random after they are collated.
    """

    name: str
    target: str
    trials: dict[str, int]
    aim: dict[str, float]
    loss: Loss | None = None
    augments: bool = False


_MLP = str(Path(__file__).parent / "digits_mlp.py")


def _on(cpu: float, cuda: float) -> dict[str, Any]:
    return {"cpu": cpu, "cuda": cuda}


def _cross_entropy(output: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(output, batch.targets)


def _squares(output: Tensor, batch: Batch) -> Tensor:
    return F.mse_loss(output, batch.targets)


def _squares_of_sound(output: Tensor, batch: Batch) -> Tensor:
    return F.mse_loss(output, batch.targets["clean"])


CASES = {
    case.name: case
    for case in (
        Case("colors", "colors", _on(256, 1024), _on(80, 40)),
        Case("digits-mlp", _MLP, _on(128, 512), _on(30, 40), _cross_entropy),
        Case("digits", "digits", _on(32, 256), _on(4, 40), _cross_entropy),
        Case("picture", "picture", _on(32, 64), _on(10, 40), _squares),
        Case("denoise", "denoise", _on(8, 32), _on(1.5, 2), _squares_of_sound, augments=True),
        Case("arc", "arc", _on(8, 32), _on(1.5, 2), augments=True),
    )
}


@dataclass(frozen=True)
class Job:
    """A case that is ready to be trained on `device`."""

    case: Case
    recipe: Recipe
    trainer: Trainer
    device: torch.device
    data: Data = field(repr=False)

    @classmethod
    def of(cls, case: Case, epochs: int, device: torch.device, precision: str = "float32") -> Job:
        """The task's own recipe, at a constant rate and with the gradient's norm bounded, for runs of `epochs`."""
        task = load_task(case.target)
        space, probe = resolve(plain_space(find_target(case.target)), task)
        recipe, _ = space.recipe_for(space.default_values()[0])
        constant: dict[str, Any] = {"scheduler": None, "scheduler_kwargs": {}, "early_stopping": None}
        told = {"epochs": epochs, "gradient_clip": CLIP, "precision": precision}
        recipe = recipe.model_copy(update={**constant, **told})
        goal = Goal(space.metric, space.maximize, value=space.value)  # type: ignore[arg-type]
        return cls(case, recipe, Trainer(task, goal, probe.terms, device), device, task.data(recipe.data))

    def recipes(self, count: int) -> list[Recipe]:
        """Trials with random learning rates and seeds, the same every time."""
        draws = torch.rand(count, generator=torch.Generator().manual_seed(0)).tolist()
        rate = self.recipe.learning_rate or 1e-3
        return [
            self.recipe.model_copy(update={"learning_rate": rate * SLOWEST_RATE**draw, "seed": seed})
            for seed, draw in enumerate(draws)
        ]

    def model(self, recipe: Recipe) -> nn.Module:
        return build_model(self.trainer.task, recipe).to(self.device)

    @property
    def train(self) -> Samples:
        """The training samples, on the CPU."""
        assert isinstance(self.data.train, Samples)
        return self.data.train

    @property
    def validation(self) -> Samples:
        """The validation samples, on the CPU."""
        assert isinstance(self.data.validation, Samples)
        return self.data.validation

    @cached_property
    def loss(self) -> Loss:
        """The case's own loss, or the task's terms by their weights."""
        if self.case.loss is not None:
            return self.case.loss
        task = self.trainer.task
        weights = loss_weights(self.recipe, self.trainer.terms)
        state = mapped(lambda tensor: tensor.to(self.device), task.state())

        def weighted(output: Any, batch: Batch) -> Tensor:
            terms = task.losses(output, batch, state)
            return torch.stack([weights[name] * term.mean() for name, term in terms.items() if weights[name]]).sum()

        return weighted

    @cached_property
    def flops_per_epoch(self) -> float:
        """Floating-point operations of the matrix products and convolutions in an epoch's steps of one trial."""
        size = self.recipe.batch_size
        task, index = self.trainer.task, torch.arange(size)
        batch = task.batch(self.train, index, self.properties, torch.Generator()).to(self.device)
        model = self.model(self.recipe).train()
        with FlopCounterMode(display=False) as counter:
            self.loss(task.forward(model, batch), batch).backward()  # type: ignore[no-untyped-call]
        return float(counter.get_total_flops()) / size * len(self.train)

    @property
    def properties(self) -> dict[str, Any]:
        """What the task's batches are made by."""
        return {**self.recipe.data, "phase": ""}
