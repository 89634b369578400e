"""Running sums over an epoch: losses weighted by samples, metrics by what they count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tuner.tasks.base import Mean, Task, mapped


class Sums:
    """Running sums over an epoch, on the device: no step waits for a number.

    They are scalars, or of shape (trials,), for a stack of trials at once.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.samples = 0
        self.losses: dict[str, Tensor] = {}
        self.means: dict[str, tuple[Tensor, int | Tensor]] = {}
        self.norm: Tensor | None = None

    def add(
        self,
        count: int,
        loss: Tensor,
        terms: Mapping[str, Tensor],
        metrics: Mapping[str, Mean],
        norm: Tensor | None,
    ) -> None:
        """Take one batch of `count` samples; `loss` and `terms` are its means (scalars)."""
        self.steps += 1
        self.samples += count
        for name, value in {"loss": loss, **terms}.items():
            self.losses[name] = self.losses.get(name, torch.zeros_like(value)) + value.detach() * count
        for name, (total, number) in metrics.items():
            before, seen = self.means.get(name, (torch.zeros_like(total), 0))
            self.means[name] = (before + total, seen + number)
        if norm is not None:
            self.norm = norm.detach() if self.norm is None else self.norm + norm.detach()

    def tensors(self) -> dict[str, Any]:
        """The sums as nested tensors, without the counts of steps and samples."""
        return {name: value for name, value in vars(self).items() if name not in ("steps", "samples")}

    def add_tensors(self, count: int, tensors: Mapping[str, Any]) -> None:
        """Take one batch of `count` samples by the `tensors()` of its own sums."""
        self.steps += 1
        self.samples += count
        mine, theirs = _by_place(self.tensors()), _by_place(tensors)
        both = [place for place in theirs if place in mine]
        added = torch._foreach_add([mine[place] for place in both], [theirs[place] for place in both]) if both else ()
        found = theirs | mine | dict(zip(both, added, strict=True))
        self.losses = {name: found["loss", name] for kind, name in found if kind == "loss"}
        self.means = {name: (found["total", name], found["number", name]) for kind, name in found if kind == "total"}
        self.norm = found.get(("norm", ""))

    def averages(self, part: str, task: Task) -> dict[str, float]:
        """Means over all samples, and what `task` derives of them, by recorded name: `train_loss`, `train_accuracy`.

        A mean of nothing is left out.
        """
        found = {name: float(total) / max(1, self.samples) for name, total in self.losses.items()}
        means = {name: (total, int(number)) for name, (total, number) in self.means.items()}
        found |= {name: float(total) / number for name, (total, number) in means.items() if number}
        return {f"{part}_{name}": float(value) for name, value in {**found, **task.derived(found)}.items()}

    def mean_norm(self) -> float:
        """The gradient norm, averaged over steps."""
        return 0.0 if self.norm is None else float(self.norm) / max(1, self.steps)

    @classmethod
    def stacked(cls, parts: Sequence[Sums]) -> Sums:
        """The sums of several trials, which stand at the same step, as one."""
        first, sums = parts[0], cls()
        sums.steps, sums.samples = first.steps, first.samples
        sums.losses = {name: torch.stack([part.losses[name] for part in parts]) for name in first.losses}
        for name in first.means:
            totals, numbers = zip(*(part.means[name] for part in parts), strict=True)
            sums.means[name] = torch.stack(totals), torch.stack([torch.as_tensor(number) for number in numbers])
        if first.norm is not None:
            sums.norm = torch.stack([part.norm for part in parts if part.norm is not None])
        return sums

    def row(self, number: int) -> Sums:
        """The sums of one trial of a stack, copied."""

        def entry(tensor: Tensor) -> Tensor:
            return tensor[number].clone()

        sums = Sums()
        vars(sums).update(mapped(entry, vars(self)))
        return sums

    def rows(self, count: int) -> list[Sums]:
        """The sums of each trial of a stack, on the CPU, whence numbers are quickly read."""
        here = Sums.restore(self.state(), torch.device("cpu"))
        return [here.row(number) for number in range(count)]

    def state(self) -> dict[str, Any]:
        """The sums as plain values and tensors, which are the sums' own."""
        return dict(vars(self))

    @classmethod
    def restore(cls, state: Mapping[str, Any], device: torch.device) -> Sums:
        """The sums of an earlier `state()`, on `device`."""
        sums = cls()
        vars(sums).update(mapped(lambda tensor: tensor.to(device), dict(state)))
        return sums


def _by_place(tensors: Mapping[str, Any]) -> dict[tuple[str, str], Tensor]:
    """What `Sums.tensors` gives, by kind and name."""
    found = {("loss", name): loss for name, loss in tensors["losses"].items()}
    for name, (total, number) in tensors["means"].items():
        found |= {("total", name): total, ("number", name): torch.as_tensor(number)}
    return found if tensors["norm"] is None else {**found, ("norm", ""): tensors["norm"]}
