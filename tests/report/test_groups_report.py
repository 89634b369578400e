"""A comparison on a terminal and as JSON: what it says, and that it fits."""

from __future__ import annotations

import io
import json
import random
import re
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import create_trial
from rich.console import Console

from tuner.analysis import Analysis, analyze
from tuner.report import analysis_json, print_analysis
from tuner.report.group_readings import group_labels
from tuner.report.groups import chance

NAMES = ["a_rather_long_name_of_a_choice", "SGD", "Adam", "RMSprop", "Adagrad"]


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_of(levels: int, seeds: int, shift: float = 0.0, choices: list[Any] | None = None) -> optuna.Study:
    """Each choice with each seed; every level is `shift` above the one before it."""
    study = optuna.create_study(direction="minimize", study_name="s")
    search = {"optimizer": {"choices": choices or NAMES}, "seed": {}}
    study.set_user_attr("space", {"metric": "val_loss", "value": "best", "search": search})
    draw = random.Random(0)
    distributions: dict[str, BaseDistribution] = {
        "optimizer": CategoricalDistribution([0, 1, 2, 3, 4] if choices else NAMES),
        "seed": IntDistribution(0, 99),
    }
    for place in range(levels):
        for seed in range(seeds):
            params = {"optimizer": place if choices else NAMES[place], "seed": seed}
            attributes = {"gap": -0.001 * draw.random(), "recipe": {}}
            value = 1e-4 * (seed + draw.random()) + place * shift
            study.add_trial(
                create_trial(value=value, params=params, distributions=distributions, user_attrs=attributes)
            )
    return study


def analysis_of(levels: int, seeds: int, **options: Any) -> Analysis:
    return analyze(study_of(levels, seeds, **options), by="optimizer")


def printed(analysis: Analysis, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    print_analysis(analysis, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize(("levels", "seeds"), [(0, 0), (1, 3), (2, 2), (2, 5), (3, 4), (5, 3)])
def test_every_line_fits_and_is_ascii(width: int, levels: int, seeds: int) -> None:
    text = printed(analysis_of(levels, seeds, shift=0.5), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert text.replace("\u2500", "-").isascii()
    assert "Comparison by optimizer" in text
    assert "Top trials" not in text


@pytest.mark.parametrize("width", [40, 120])
def test_no_mean_and_no_chance_is_cut(width: int) -> None:
    analysis = analysis_of(2, 5, shift=0.5)
    assert analysis.groups is not None
    text = " ".join(printed(analysis, width).split())
    for entry in analysis.groups.comparisons:
        assert chance(entry.p_adjusted) in text
        for level in entry.levels:
            assert level.mean is not None and level.high is not None
            assert f"{level.mean:#.4g} +- {level.high - level.mean:.2g}" in text


def test_it_says_how_it_was_made() -> None:
    analysis = analysis_of(2, 5, shift=0.5)
    text = " ".join(printed(analysis, 300).split())
    assert f"SGD is better than {NAMES[0]} on best val_loss" not in text
    assert f"{NAMES[0]} is better than SGD on best val_loss; no difference on 1 other measure can be told" in text
    assert f"complete trials: {NAMES[0]}: 5, SGD: 5" in text
    assert "p: paired t test of pairs equal in seed, Holm-adjusted over the 2 measures tested" in text
    assert f"difference: {NAMES[0]} less SGD" in text
    assert re.search(r"best val_loss .* \* <0.001", text)


def test_chance_is_admitted() -> None:
    text = " ".join(printed(analysis_of(3, 4), 300).split())
    assert "no difference between the 3 values can be told from chance (smallest p " in text
    assert "Alexander-Govern test, Holm-adjusted over the 2 measures tested" in text
    assert "*" not in text.partition("Results")[2]


def test_too_few_trials_are_said_to_be() -> None:
    text = " ".join(printed(analysis_of(2, 2), 300).split())
    assert f"not enough trials to tell: {NAMES[0]}: 2, SGD: 2; 3 of each are needed" in text
    assert "Holm" not in text


def test_levels_are_named_plainly_and_all_differently() -> None:
    rows = [{"STEP": 0, "learning_rate": 0.1}]
    choices = [{"name": "calm", "keyframes": rows}, {"file": "a.csv"}, {"file": "a.csv", "steps": 9}, None, [1, 2]]
    found = analysis_of(5, 1, choices=choices).groups
    assert found is not None
    assert group_labels(found) == ["calm", "a #2", "a #3", "optimizer null", "optimizer [1, 2]"]


@pytest.mark.parametrize(
    ("p", "text"), [(None, "-"), (0.0001, "* <0.001"), (0.05, "* 0.050"), (0.0512, "0.051"), (0.3, "0.30"), (1, "1.00")]
)
def test_chances(p: float | None, text: str) -> None:
    assert chance(p) == text


def test_json_holds_all_of_it() -> None:
    analysis = analysis_of(2, 4, shift=0.5)
    groups = analysis.groups
    assert groups is not None
    found = analysis_json(analysis)["groups"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {
        "parameter", "levels", "lost", "comparisons", "phases", "paired_by", "unpaired", "inactive", "notes",
    }  # fmt: skip
    assert found["levels"] == [
        {"value": NAMES[0], "trials": [0, 1, 2, 3], "incomplete": 0},
        {"value": "SGD", "trials": [4, 5, 6, 7], "incomplete": 0},
    ]
    entry = found["comparisons"][0]
    assert entry["measure"] == "best val_loss"
    assert entry["tested"]["p"] == groups.comparisons[0].tested.p
    assert entry["values"]["7"] == groups.comparisons[0].values[7]
    assert entry["levels"][1]["trials"] == 4


@pytest.mark.parametrize("width", [40, 120])
def test_the_summary_says_where_the_study_stands(width: int) -> None:
    study = study_of(2, 3)
    study.set_user_attr("expect", {"good": {"value": {"high": 0.5}}, "poor": {"gap": {"low": 0.1}}})
    text = " ".join(printed(analyze(study), width).split())
    value = f"{study.best_value:.4g}"
    assert f"expected good: value {value} is below 0.5" in text
    assert "Top trials" in text
