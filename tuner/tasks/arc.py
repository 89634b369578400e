"""arc: puzzles of coloured grids, whose rule a transformer has to read off the pairs that show it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.errors import UsageError
from tuner.tasks.arc_puzzles.augment import augmented
from tuner.tasks.arc_puzzles.canvas import PAD, samples_of
from tuner.tasks.arc_puzzles.folder import fitting, read_folder, split
from tuner.tasks.arc_puzzles.generate import FAMILIES, SMALLEST_SIDE, make_puzzles
from tuner.tasks.arc_puzzles.net import PuzzleTransformer
from tuner.tasks.arc_puzzles.puzzle import LARGEST_SIDE
from tuner.tasks.arc_puzzles.solving import jobs_for, most_likely, predicted, solve
from tuner.tasks.base import Batch, Data, Mean, Samples, Task

if TYPE_CHECKING:  # only pictures need Pillow
    from PIL.Image import Image

MADE_SIZE, FOLDER_SIZE = 6, 10
"""Sides of the canvas where the data option `size` is 0: for made puzzles, and for a folder's."""

VALIDATION_PUZZLES = 300
"""Made puzzles to validate on, and as many others to test on."""

MOST_PAIRS = 10
PREVIEWED = 6


class Arc(Task):
    """Puzzles of the Abstraction and Reasoning Corpus: pairs of grids show a rule, which is then applied to another.

    Data options: `path`, a folder of ARC files (JSON); without one, puzzles are made (`arc_puzzles.generate`). `size`,
    the side of the square canvas that grids are padded to: 0 is 6 for made puzzles, whose grids have 6 to `size` rows
    and columns, and 10 for a folder, of which puzzles with larger grids are left out (more than half of the corpus's).
    `pairs`, the most pairs shown. `puzzles`, the samples of an epoch: so many are made; a folder's are repeated up to
    that number, and changed anew each time.

    Source of the task and its files: F. Chollet, On the Measure of Intelligence, 2019, arXiv:1911.01547.
    """

    name: ClassVar[str] = "arc"
    model_options: ClassVar[Mapping[str, Any]] = {
        "heads": 2,
        "head_dim": 24,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "d_ff": 96,
        "dropout": 0.0,
    }
    data_options: ClassVar[Mapping[str, Any]] = {"path": "", "size": 0, "pairs": 3, "puzzles": 1024}

    def data(self, options: Mapping[str, Any]) -> Data:
        """Samples as `canvas.samples_of` has them; no puzzle is both trained and validated on.

        Made: `puzzles` to train on, 300 to validate on. Of a folder a fifth of the puzzles that fit, chosen by their
        names, validates; a note says how many did not fit. Raises `UsageError` for options out of range, files that are
        no puzzles (all are read), and a folder with fewer than two puzzles that fit.
        """
        options = {**self.data_options, **options}
        _check_options(options)
        size, pairs, count = canvas_size(options), options["pairs"], options["puzzles"]
        if not options["path"]:
            made = (
                make_puzzles(count, size, pairs, "train"),
                make_puzzles(VALIDATION_PUZZLES, size, pairs, "validation"),
            )
            train, validation = (samples_of(puzzles, size, pairs) for puzzles in made)
            return Data(train, validation)
        found = read_folder(Path(options["path"]).expanduser())
        fit = fitting(found, size, options["path"])
        learnt, held_out = split(fit)
        repeats = math.ceil(count / sum(len(puzzle.test) for puzzle in learnt))
        train, validation = samples_of(learnt, size, pairs, repeats), samples_of(held_out, size, pairs)
        return Data(train, validation, notes=_left_out(len(found) - len(fit), len(found), size))

    def test_data(self, options: Mapping[str, Any]) -> Samples | None:
        """300 made puzzles that are in no other split; None for a folder: all of it is trained or validated on."""
        options = {**self.data_options, **options}
        if options["path"]:
            return None
        size, pairs = canvas_size(options), options["pairs"]
        return samples_of(make_puzzles(VALIDATION_PUZZLES, size, pairs, "test"), size, pairs)

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        """A `PuzzleTransformer`; raises `ValueError` for options out of range, and for d_ff < heads * head_dim."""
        return PuzzleTransformer(**options)

    def batch(self, data: Samples, index: Tensor, properties: Mapping[str, Any], generator: torch.Generator) -> Batch:
        """The puzzles at `index`, changed at random (see `augment.augmented`)."""
        return augmented(data.rows(index), generator)

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of the eleven classes in nats, the mean over each sample's cells; padding has no part in it."""
        grid = batch.targets["grid"]
        per_cell = F.cross_entropy(output.flatten(0, -2), grid.flatten(), ignore_index=PAD, reduction="none")
        cells = (grid != PAD).flatten(1).sum(dim=1)
        return {"cross_entropy": per_cell.view_as(grid).flatten(1).sum(dim=1) / cells.clamp(min=1)}

    def metrics(self, output: Tensor, batch: Batch) -> dict[str, Mean]:
        """Shares of cells and of whole grids that are right, each beside what copying the test input gives.

        `cell_accuracy`, `copy_cell_accuracy`, `solved`, `copy_solved`; of made puzzles also per family of rules, as in
        `solved_flip`. Padding does not count.
        """
        grid, family = batch.targets["grid"], batch.targets["family"]
        cells = grid != PAD
        found: dict[str, Mean] = {}
        for copy, answer in (("", most_likely(output)), ("copy_", batch.inputs["test"])):
            right = (answer == grid) & cells
            solved = (right | ~cells).flatten(1).all(dim=1)
            found |= {f"{copy}cell_accuracy": Mean.of(right, where=cells), f"{copy}solved": Mean.of(solved)}
            for number, name in enumerate(FAMILIES):
                among = family == number
                found[f"{copy}cell_accuracy_{name}"] = Mean.of(right, where=cells & among[:, None, None])
                found[f"{copy}solved_{name}"] = Mean.of(solved, where=among)
        return found

    def preview(self, model: nn.Module, data: Data) -> Image:
        """Six validation puzzles, or as many as there are: test input, target, prediction."""
        from tuner.tasks.arc_puzzles.drawing import drawn

        assert isinstance(data.validation, Samples)
        batch = data.validation.rows(torch.arange(min(PREVIEWED, len(data.validation)), device=data.validation.device))
        return drawn(batch.inputs["test"].cpu(), batch.targets["grid"].cpu(), predicted(model, batch.inputs))

    def apply(
        self, model: nn.Module, options: Mapping[str, Any], source: Path, destination: Path
    ) -> Iterator[tuple[Path, str]]:
        """Solve the ARC file `source`, or those in that folder: each is written again with the model's test outputs.

        How large an answer is follows from the pairs shown (`output_size.output_size`). Raises `UsageError` for files
        that are no puzzles, and for grids or answers that are larger than the canvas, before anything is written.
        """
        options = {**self.data_options, **options}
        size = canvas_size(options)
        yield from solve(model, jobs_for(source, destination, size), size, options["pairs"])


def canvas_size(options: Mapping[str, Any]) -> int:
    """The side of the canvas that data options ask for."""
    return int(options["size"]) or (FOLDER_SIZE if options["path"] else MADE_SIZE)


def _left_out(count: int, among: int, size: int) -> tuple[str, ...]:
    """What a user should know where puzzles did not fit the canvas."""
    rule = f"{count} of {among} puzzles are left out, for they have grids larger than {size} x {size}"
    return (f"{rule}; the data option `size` says how large a grid may be",) if count else ()


def _check_options(options: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a data option out of range."""
    ranges = {
        "size": (1 if options["path"] else SMALLEST_SIDE, LARGEST_SIDE),
        "pairs": (1, MOST_PAIRS),
        "puzzles": (1, 10_000_000),
    }
    for name, (low, high) in ranges.items():
        value = canvas_size(options) if name == "size" else options[name]
        if not low <= value <= high:
            raise UsageError(f"must be from {low} to {high}", place=f"recipe.data.{name}", value=value)
