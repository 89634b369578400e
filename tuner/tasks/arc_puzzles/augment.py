"""Other puzzles made of a puzzle: its pairs in another order, turned, mirrored, and in other colours.

All grids of a puzzle are changed alike, so that its pairs still follow one rule, if seldom the same one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.tasks.arc_puzzles.canvas import PAD, is_shown
from tuner.tasks.arc_puzzles.puzzle import COLORS
from tuner.tasks.base import Batch


def augmented(batch: Batch, generator: torch.Generator) -> Batch:
    """The batch with every puzzle changed at random, as `generator` (on the CPU) has it.

    Any of the pairs may become the one to solve. Black (0) stays, for in the corpus it is the background; the other
    nine colours change places. Grids are turned and mirrored within their own extent, in one of eight ways.
    """
    inputs, targets = batch.inputs, batch.targets
    before = torch.cat([inputs["context_in"], inputs["test"].unsqueeze(1)], dim=1)
    after = torch.cat([inputs["context_out"], targets["grid"].unsqueeze(1)], dim=1)
    order = _orders(is_shown(before), generator)
    colors = _color_exchanges(len(before), generator).to(before.device)
    ways = torch.randint(2, (3, len(before)), generator=generator, dtype=torch.bool).to(before.device)
    before, after = (_oriented(_colored(_ordered(grids, order), colors), ways) for grids in (before, after))
    return Batch(
        {"context_in": before[:, :-1], "context_out": after[:, :-1], "test": before[:, -1]},
        {**targets, "grid": after[:, -1]},
    )


def _orders(shown: Tensor, generator: torch.Generator) -> Tensor:
    """Random orders of the pairs (puzzles x pairs), those that are not there first: the last is one to solve."""
    chance = torch.rand(shown.shape, generator=generator).to(shown.device)
    return torch.where(shown, chance, -1.0).argsort(dim=1)


def _ordered(grids: Tensor, order: Tensor) -> Tensor:
    return torch.take_along_dim(grids, order[:, :, None, None], dim=1)


def _color_exchanges(count: int, generator: torch.Generator) -> Tensor:
    """What each colour, and the padding, becomes: count x 11."""
    exchanged = 1 + torch.rand(count, COLORS - 1, generator=generator).argsort(dim=1)
    black, padding = (torch.full((count, 1), entry) for entry in (0, PAD))
    return torch.cat([black, exchanged, padding], dim=1)


def _colored(grids: Tensor, colors: Tensor) -> Tensor:
    return colors.gather(1, grids.flatten(1)).view_as(grids)


def _oriented(grids: Tensor, ways: Tensor) -> Tensor:
    """Grids (puzzles x pairs x size x size) upside down, mirrored, transposed, where `ways` (3 x puzzles) says so."""
    upside_down, mirrored, transposed = (way[:, None, None, None] for way in ways)
    grids = torch.where(upside_down, _upside_down(grids), grids)
    grids = torch.where(mirrored, _upside_down(grids.mT).mT, grids)
    return torch.where(transposed, grids.mT, grids)


def _upside_down(grids: Tensor) -> Tensor:
    """The rows of each grid in reverse, those of padding staying below."""
    height = (grids[..., :, :1] != PAD).sum(dim=-2, keepdim=True)
    rows = torch.arange(grids.shape[-1], device=grids.device)[:, None]
    return torch.take_along_dim(grids, (height - 1 - rows) % grids.shape[-1], dim=-2)
