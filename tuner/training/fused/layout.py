"""Layout: where a model's trainable numbers stand in a row, so that a stack of models is one matrix."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ALIGNED = 16
"""Every parameter begins at a multiple of so many numbers, so that all rows lie alike in memory."""


@dataclass(frozen=True)
class Layout:
    """Names, shapes and first columns of the trainable parameters in a row of `width` numbers of one `dtype`.

    The gaps between parameters hold zeros. What is not trained, because it is frozen or because nothing of it reaches
    the loss, is no part of the row.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    starts: tuple[int, ...]
    width: int
    dtype: torch.dtype

    @classmethod
    def of(cls, model: nn.Module, idle: Collection[str] = ()) -> Layout:
        """The layout of a model's parameters, but for those that are frozen or `idle`; `ValueError` for mixed types."""
        trained = [
            (name, parameter)
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and name not in idle
        ]
        types = {parameter.dtype for _, parameter in trained}
        if len(types) != 1:
            kinds = ", ".join(sorted(map(str, types))) or "none"
            raise ValueError(f"its trainable parameters must be of one type, and are of {kinds}")
        sizes = [-(-parameter.numel() // ALIGNED) * ALIGNED for _, parameter in trained]
        starts = list(itertools.accumulate(sizes, initial=0))
        names, parameters = zip(*trained, strict=True)
        return cls(names, tuple(entry.shape for entry in parameters), tuple(starts[:-1]), starts[-1], types.pop())

    def row(self, model: nn.Module, device: torch.device) -> Tensor:
        """A model's trainable numbers as a row (width,), on `device`."""
        row = torch.zeros(self.width, dtype=self.dtype, device=device)
        parameters = dict(model.named_parameters())
        for name, view in self.views(row.unsqueeze(0)).items():
            view[0].copy_(parameters[name].detach())
        return row

    def views(self, matrix: Tensor) -> dict[str, Tensor]:
        """The parameters within a matrix of rows (trials x width), by name: trials x shape, sharing its memory."""
        found = {}
        for name, shape, start in zip(self.names, self.shapes, self.starts, strict=True):
            columns = matrix[:, start : start + shape.numel()]
            found[name] = columns.view(len(matrix), *shape)
        return found

    def owners(self, groups: Sequence[Mapping[str, object]], model: nn.Module) -> Tensor:
        """For each column the number of the optimizer's parameter group that it belongs to (width,), int64."""
        number_of = {id(entry): number for number, group in enumerate(groups) for entry in group["params"]}  # type: ignore[attr-defined]
        owners = torch.zeros(self.width, dtype=torch.int64)
        parameters = dict(model.named_parameters())
        for name, view in self.views(owners.unsqueeze(0)).items():
            view.fill_(number_of[id(parameters[name])])
        return owners
