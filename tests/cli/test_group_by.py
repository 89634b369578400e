"""`tuner analyze --group-by` and what a study expects, as a person uses them on a study that was really trained."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from scipy import stats

from tuner.cli.main import main

SPACE = """
task: tiny.py
metric: val_mse
direction: minimize
recipe: {epochs: 8, batch_size: 8, learning_rate: 0.05}
expect:
  good: {val_mse: {high: 1000.0}, gap: {high: 1000.0}}
  poor: {val_mse: {low: 2000.0}}
modes:
  quick:
    sampler: grid
    search:
      optimizer: {choices: [Adam, SGD]}
      seed: {choices: [0, 1, 2, 3]}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one study: two optimizers over four seeds."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(Path(__file__).parents[1] / "files" / "tiny.py", folder)
    (folder / "tiny.yaml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["tuner", "quick", "tiny.py", "--quiet"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return folder


@pytest.fixture
def study(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """The study, in the current folder, as Optuna sees it."""
    shutil.copytree(trained / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    return optuna.load_study(study_name="tiny-quick", storage="sqlite:///studies/tiny-quick.db")


def of_each(study: optuna.Study, optimizer: str) -> list[optuna.trial.FrozenTrial]:
    trials = [trial for trial in study.trials if trial.params["optimizer"] == optimizer]
    return sorted(trials, key=lambda trial: trial.params["seed"])


def test_recipes_are_compared_over_seeds(study: optuna.Study, tuner) -> None:
    done = tuner("analyze", "--group-by", "optimizer", "--json")
    assert done.code == 0, done.err
    groups = json.loads(done.out)["groups"]
    entries = {entry["measure"]: entry for entry in groups["comparisons"]}
    assert groups["paired_by"] == ["seed"]
    assert {"best val_mse", "final val_loss", "final val_l1", "final val_close", "gap"} <= entries.keys()
    assert {"variance of log mse", "variance of log loss", "spikes in l1"} <= entries.keys()

    adam, sgd = of_each(study, "Adam"), of_each(study, "SGD")
    best = stats.ttest_rel([trial.value for trial in adam], [trial.value for trial in sgd])
    assert entries["best val_mse"]["tested"]["p"] == pytest.approx(best.pvalue)
    gaps = [[trial.user_attrs["gap"] for trial in level] for level in (adam, sgd)]
    assert entries["gap"]["tested"]["p"] == pytest.approx(stats.ttest_rel(*gaps).pvalue)
    losses = [[trial.user_attrs["final_val_loss"] for trial in level] for level in (adam, sgd)]
    assert entries["final val_loss"]["levels"][1]["mean"] == pytest.approx(np.mean(losses[1]))
    last = {trial.number: trial.intermediate_values[8] for trial in study.trials}
    final = entries.get("final val_mse", entries["best val_mse"])
    assert {int(number): value for number, value in final["values"].items()} == pytest.approx(last, rel=1e-5)


def test_it_reads_on_a_terminal(study: optuna.Study, tuner) -> None:
    done = tuner("analyze", "tiny-quick", "--group-by", "optimizer")
    assert done.code == 0, done.err
    for words in ("Comparison by optimizer", "Adam: 4, SGD: 4", "Steadiness", "paired t test of pairs equal in"):
        assert words in " ".join(done.out.split())
    by_seed = tuner("analyze", "--group-by", "seed")
    assert "not enough trials to tell: seed 0: 2, seed 1: 2" in " ".join(by_seed.out.split())


def test_an_unknown_parameter_is_refused(study: optuna.Study, tuner) -> None:
    done = tuner("analyze", "--group-by", "optimiser")
    assert done.code == 2
    assert done.err == (
        "error: --group-by: no such parameter was searched (got 'optimiser'). Did you mean 'optimizer'?\n"
    )


def test_the_study_stands_where_it_was_expected_to(study: optuna.Study, tuner) -> None:
    found = json.loads(tuner("analyze", "--json").out)
    assert found["groups"] is None
    assert (found["expect"]["verdict"], found["expect"]["trial"]) == ("good", study.best_trial.number)
    val_mse = next(entry for entry in found["expect"]["good"] if entry["name"] == "val_mse")
    assert val_mse["value"] == pytest.approx(study.best_value)
    text = " ".join(tuner("analyze").out.split())
    assert f"expected good: val_mse {study.best_value:.4g} is below 1000, gap " in text
