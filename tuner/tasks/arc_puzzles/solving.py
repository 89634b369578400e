"""Solving files of puzzles with a trained net, checked as a whole before the first answer is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from tuner.errors import UsageError
from tuner.files import write_atomically
from tuner.tasks.arc_puzzles.canvas import on_canvas, samples_of
from tuner.tasks.arc_puzzles.output_size import Size, output_size
from tuner.tasks.arc_puzzles.puzzle import COLORS, Grid, Puzzle, parse_puzzle, puzzle_files, read_json, shape_of


@dataclass(frozen=True)
class Job:
    """A file's content, the puzzle it holds, the sizes of its answers, and where they are to be written."""

    content: dict[str, Any]
    puzzle: Puzzle
    sizes: tuple[Size, ...]
    target: Path


def most_likely(logits: Tensor) -> Tensor:
    """The most likely colour, never padding, of logits ... x 11."""
    return logits[..., :COLORS].argmax(dim=-1)


def jobs_for(source: Path, destination: Path, size: int) -> list[Job]:
    """What is to be solved: the file `source`, or each JSON file in that folder, with the file to write.

    A file's answers go to `destination` if that ends in `.json`, else into the folder `destination` under the file's
    name. Raises `UsageError` for files that are no puzzles, for grids larger than `size` x `size`, and where a file
    that is read would be overwritten.
    """
    files = puzzle_files(source) if source.is_dir() else [source]
    single = not source.is_dir() and destination.suffix == ".json" and not destination.is_dir()
    if not single and destination.is_file():
        raise UsageError("a file, where a folder is needed", place=str(destination))
    jobs = [_job(path, destination if single else destination / path.name, size) for path in files]
    read = {path.resolve() for path in files}
    for job in jobs:
        if job.target.resolve() in read:
            raise UsageError("would overwrite a file that is read", place=str(job.target), hint="Name another folder.")
    return jobs


def _job(path: Path, target: Path, size: int) -> Job:
    content = read_json(path)
    puzzle = parse_puzzle(content, str(path), outputs_known=False)
    sizes = tuple(output_size(puzzle.train, _size(pair.input)) for pair in puzzle.test)
    for what, sides in [*(("grid", _size(grid)) for grid in puzzle.grids()), *(("answer", entry) for entry in sizes)]:
        if max(sides) > size:
            rule = f"the model's canvas has {size} x {size} cells, and this puzzle has a larger {what}"
            hint = "Train a model with a larger data option `size`."
            raise UsageError(rule, place=str(path), value=shape_of(*sides), hint=hint)
    return Job(content, puzzle, sizes, target)


def _size(grid: Grid) -> Size:
    return grid.shape[0], grid.shape[1]


def predicted(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """The model's colours for inputs on any device: batch x size x size, on the CPU."""
    device = next(model.parameters()).device
    return most_likely(model({name: tensor.to(device) for name, tensor in inputs.items()})).cpu()


def solve(model: nn.Module, jobs: Sequence[Job], size: int, pairs: int) -> Iterator[tuple[Path, str]]:
    """Write each file again with the model's answers as the outputs of its test pairs; gives path and words."""
    for job in jobs:
        canvases = predicted(model, samples_of([job.puzzle], size, pairs).inputs).numpy()
        answers = [canvas[:rows, :columns] for canvas, (rows, columns) in zip(canvases, job.sizes, strict=True)]
        tests = [
            {**entry, "output": answer.tolist()} for entry, answer in zip(job.content["test"], answers, strict=True)
        ]
        write_atomically(job.target, json.dumps({**job.content, "test": tests}).encode())
        yield job.target, _words(job.puzzle, answers)


def _words(puzzle: Puzzle, answers: Sequence[Grid]) -> str:
    """How many answers there are and, where the file knows better, how good they are: beside copying the input."""
    text = f"{len(answers)} answer{'s' if len(answers) > 1 else ''}"
    both = zip(puzzle.test, answers, strict=True)
    known = [(pair.input, pair.output, mine) for pair, mine in both if pair.output is not None]
    if not known:
        return text
    solved = sum(np.array_equal(mine, truth) for _, truth, mine in known)
    right = np.concatenate([_right(mine, truth) for _, truth, mine in known]).mean()
    copied = np.concatenate([_right(given, truth) for given, truth, _ in known]).mean()
    return f"{text}, {solved} of {len(known)} solved, {right:.0%} of cells right (copying the input: {copied:.0%})"


def _right(answer: Grid, truth: Grid) -> NDArray[np.bool_]:
    """For each cell of `truth` whether the answer has the same there; cells that it lacks are wrong."""
    size = max(*answer.shape, *truth.shape)
    right: NDArray[np.bool_] = on_canvas(answer, size)[: truth.shape[0], : truth.shape[1]] == truth
    return right.ravel()
