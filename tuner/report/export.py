"""A trial as files: its recipe as YAML and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tuner.errors import UsageError
from tuner.files import weights_path, write_atomically
from tuner.search_space.yaml_file import dump_yaml
from tuner.storage.studies import OpenStudy


def pick_trial(opened: OpenStudy, number: int | None) -> FrozenTrial:
    """Trial `number`, or the best; `UsageError` where there is none or it has no recipe."""
    trials = opened.study.get_trials(deepcopy=False)
    if number is None:
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if not complete:
            raise UsageError("no trial of the study is complete", place=opened.study.study_name)
        number = opened.study.best_trial.number
    if number >= len(trials):
        raise UsageError(f"the study has no trial {number}", place="--trial", hint=f"It has 0 to {len(trials) - 1}.")
    return trials[number]


def recipe_text(opened: OpenStudy, trial: FrozenTrial) -> str:
    """A trial's recipe as a search space's file without modes, which `tuner train` takes.

    For an objective function the parameters stand instead of the recipe.
    """
    space = opened.study.user_attrs.get("space", {})
    about: dict[str, Any] = {key: space[key] for key in ("task", "metric", "direction", "value") if key in space}
    if str(about.get("task", "")).endswith(".py"):
        about["task"] = Path(about["task"]).resolve().as_posix()
    score = "no value" if trial.value is None else f"{space.get('metric', 'value')} {trial.value:.6g}"
    head = f"# trial {trial.number} of study {opened.study.study_name}: {score}\n"
    if "recipe" in trial.user_attrs:
        return head + dump_yaml({**about, "recipe": trial.user_attrs["recipe"]})
    return head + dump_yaml({"params": dict(trial.params)})


def kept_weights(opened: OpenStudy, trial: FrozenTrial) -> Path | None:
    """The trial's weights, if they are kept; a duplicate has its original's."""
    number = trial.user_attrs.get("duplicate_of", trial.number)
    path = weights_path(opened.files, number)
    return path if path.is_file() else None


def export_trial(opened: OpenStudy, number: int | None, out: Path | None, force: bool) -> list[str]:
    """Write `recipe.yaml` and `weights.safetensors` into a folder; gives a line per file.

    Of an objective function's trial there is only `params.yaml`.
    Raises `UsageError` for files that are there already, unless `force`.
    """
    trial = pick_trial(opened, number)
    folder = out or Path(f"{opened.study.study_name}-trial-{trial.number}")
    has_recipe = "recipe" in trial.user_attrs
    recipe, weights = folder / ("recipe.yaml" if has_recipe else "params.yaml"), folder / "weights.safetensors"
    text, kept = recipe_text(opened, trial), kept_weights(opened, trial)
    if folder.exists() and not folder.is_dir():
        raise UsageError("not a folder", place="--out", value=str(folder))
    for path in (recipe, weights):
        if path.exists() and not force:
            raise UsageError("the file is there already", place=str(path), hint="Give --force to overwrite it.")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(recipe, text.encode())
    if not has_recipe:
        return [f"{recipe}: the parameters of trial {trial.number}"]
    lines = [f"{recipe}: the recipe of trial {trial.number}; train it with `tuner train {recipe}`"]
    if kept is None:
        return [*lines, f"no weights: those of trial {trial.number} were not kept (see --keep)"]
    write_atomically(weights, kept.read_bytes())
    return [*lines, f"{weights}: its weights"]
