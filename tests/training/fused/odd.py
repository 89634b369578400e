"""Tasks of users who do what they like: each trains in a group as it does alone, or is refused with a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from fusing import Group, Regression, assert_close, held, plain, recipe_with, shown, trained
from resuming import disturb, same_bits
from torch import Tensor, nn

from tuner.recipe import Recipe
from tuner.tasks import Batch, Mean, Task

Make = Callable[[], Task]


def recipes_for(task: Task) -> list[Recipe]:
    """With weight decay, which moves what has no gradient, and an action at the second epoch's beginning if any."""
    acting = {"timeline": {"keyframes": [{"STEP": 0}, {"STEP": 5, "ACTION": "act"}]}} if task.actions else {}
    decayed = {"optimizer": "AdamW", "optimizer_kwargs": {"weight_decay": 0.3}, "learning_rate": 0.02}
    data = [{**task.data_options, **dict.fromkeys(task.properties, value)} for value in (0.0, 0.5)]
    return [
        recipe_with(epochs=2, **decayed, **acting, data=data[0]),
        recipe_with(epochs=2, optimizer="SGD", seed=1, data_seed=2, **acting, data=data[1]),
        recipe_with(epochs=2, optimizer="NAdam", seed=2, loss_weights={"mse": 2.0}, data=data[1]),
    ]


def assert_trained_as_alone(make: Make) -> None:
    """By torch, within rounding; and to the last bit in another order and other parts, wherever generators stood."""
    recipes = recipes_for(make())
    disturb(3)
    members = trained(make(), *recipes)
    for member in members:
        assert_close(shown(member), shown(plain(make(), member.recipe)), rel=1e-4, abs=1e-4)
    disturb(4)
    for one, again in zip(members, trained(make(), *recipes[::-1], most=2)[::-1], strict=True):
        assert same_bits(held(one), held(again))


def assert_refused(make: Make, reason: str) -> None:
    recipe = recipes_for(make())[0]
    said = Group(make(), recipe).training.why_not(recipe)
    assert said
    assert "\n" not in said
    assert re.search(reason, said), said


class With(Regression):
    """A regression whose model is what `make` gives."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self.make = make

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        return self.make()


class Doing(nn.Module):
    """A line, whose inputs `do` may change; it is given the model itself, which has some buffers."""

    seen: Tensor

    def __init__(self, do: Callable[[Any, Tensor], Any], **kept: Any) -> None:
        super().__init__()
        self.line, self.do = nn.Linear(4, 1), do
        self.register_buffer("seen", torch.zeros(4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        vars(self).update(kept)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.line(self.do(self, x)).squeeze(1)
        return out


def doing(do: Callable[[Any, Tensor], Any], **kept: Any) -> Task:
    return With(lambda: Doing(do, **kept))


def small_net(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6, bias=False), *middle, nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0))


class Measuring(Regression):
    def __init__(self, measure: Callable[[Tensor, Tensor], Mean]) -> None:
        self.measure = measure

    def metrics(self, output: Tensor, batch: Batch) -> dict[str, Mean]:
        return {"measure": self.measure(output, batch.targets)}


class Predicting(Regression):
    def __init__(self, do: Callable[[Tensor], Tensor]) -> None:
        self.do = do

    def predict(self, model: nn.Module, inputs: Any) -> Any:
        return self.do(model(inputs))


class Weighing(Regression):
    def __init__(self, do: Callable[[Tensor], Tensor]) -> None:
        self.do = do

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return super().losses(self.do(output), batch, state)


class Tracing(Regression):
    def __init__(self, what: Callable[[Any], Tensor]) -> None:
        self.what = what

    def trace(self, model: nn.Module) -> dict[str, Tensor]:
        return {"what": self.what(model)}
