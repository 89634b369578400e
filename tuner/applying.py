"""Uses a trained model on files: a trial's kept weights, or a folder that `tuner train` or `tuner export` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from tuner.errors import UsageError
from tuner.probe import build_model
from tuner.recipe import Recipe
from tuner.report.export import kept_weights, pick_trial
from tuner.resolve.names import with_task_options
from tuner.search_space.build import plain_space
from tuner.single import TrainRequest, target_of
from tuner.storage.studies import Studies
from tuner.tasks import Task, load_task
from tuner.training.device import pick_device
from tuner.training.weights import load_weights


def apply_model(
    model: str, source: Path, destination: Path, trial: int | None, studies: Path, device: str, force: bool = False
) -> Iterator[str]:
    """Apply the model of a study, or of a folder, to the files of `source`; gives a line a file written.

    Raises `UsageError` where there is no model, no such file, or the output is a file that is there already, unless
    `force`.
    """
    if not source.exists():
        raise UsageError("there is no such file or folder", place="INPUT", value=str(source))
    if destination.exists() and destination.resolve() == source.resolve():
        raise UsageError("is the input itself; give another place to write to", place="OUTPUT", value=str(destination))
    if destination.is_file() and not force:
        raise UsageError("the file is there already", place=str(destination), hint="Give --force to overwrite it.")
    task, recipe, weights = (
        _from_folder(Path(model), trial) if _is_folder(model) else _from_study(model, trial, studies)
    )
    network = build_model(task, recipe).to(pick_device(device))
    tensors = load_weights(weights)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UsageError(
            f"the weights are not those of the recipe's model: {str(error).splitlines()[-1].strip()}",
            place=str(weights),
        ) from None
    network.eval()
    with torch.no_grad():
        for path, words in task.apply(network, recipe.data, source, destination):
            yield f"{path}: {words}"


def _is_folder(model: str) -> bool:
    return (Path(model) / "recipe.yaml").is_file()


def _from_folder(folder: Path, trial: int | None) -> tuple[Task, Recipe, Path]:
    """The model of a folder with `recipe.yaml` and `weights.safetensors`."""
    if trial is not None:
        raise UsageError("goes with a study, and this is a folder", place="--trial", value=trial)
    weights = folder / "weights.safetensors"
    if not weights.is_file():
        raise UsageError("the folder has a recipe and no weights", place=str(weights))
    task, recipe = _recipe_of(TrainRequest(target=str(folder / "recipe.yaml")))
    return task, recipe, weights


def _from_study(name: str, trial: int | None, studies: Path) -> tuple[Task, Recipe, Path]:
    """The model of a study's trial, the best unless a number is given."""
    opened = Studies(studies).load(name)
    chosen = pick_trial(opened, trial)
    weights = kept_weights(opened, chosen)
    if weights is None:
        raise UsageError(
            f"the weights of trial {chosen.number} were not kept",
            place=name,
            hint=f"Train it again: tuner train --from {name} --trial {chosen.number}; then apply that folder.",
        )
    task, recipe = _recipe_of(TrainRequest(study=name, trial=chosen.number, studies=studies))
    return task, recipe, weights


def _recipe_of(request: TrainRequest) -> tuple[Task, Recipe]:
    space = plain_space(target_of(request))
    task = load_task(space.task)
    return task, with_task_options(space, task).recipe_for({})[0]
