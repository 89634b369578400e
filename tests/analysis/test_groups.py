"""Recipes compared over seeds: against scipy, on planted differences, and on none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from scipy import stats

from tuner.analysis import Comparison, Groups, analyze
from tuner.analysis.groups import Pairing, compared
from tuner.analysis.measures import Measure
from tuner.errors import UsageError
from tuner.report.group_readings import groups_reading, method_lines
from tuner.storage.batched import BatchedStorage
from tuner.storage.epochs import EpochRow, EpochRows

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "optimizer": CategoricalDistribution(["Adam", "SGD", "RMSprop"]),
    "seed": IntDistribution(0, 100),
    "rate": FloatDistribution(0, 1),
    "timeline": CategoricalDistribution([0, 1]),
}


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_of(trials: list[tuple[dict[str, Any], float | None]], direction: str = "minimize") -> optuna.Study:
    """Trials given by their parameters and value; None is a failed one."""
    study = optuna.create_study(direction=direction)
    for params, value in trials:
        study.add_trial(
            create_trial(
                state=TrialState.FAIL if value is None else TrialState.COMPLETE,
                value=value,
                params=params,
                distributions={name: DISTRIBUTIONS[name] for name in params},
            )
        )
    return study


def grid(optimizers: list[str], seeds: int, seed: int = 0) -> list[tuple[dict[str, Any], float | None]]:
    """Every optimizer with every seed; a seed moves the value of all optimizers alike, and noise moves each."""
    draw = np.random.default_rng(seed)
    base = draw.normal(size=seeds)
    return [
        ({"optimizer": name, "seed": number}, float(base[number] + 0.1 * draw.normal()))
        for name in optimizers
        for number in range(seeds)
    ]


def grouped(study: optuna.Study, by: str, **sources: Any) -> Groups:
    found = analyze(study, by=by, **sources).groups
    assert found is not None
    return found


def values_of(study: optuna.Study, name: str) -> list[float]:
    trials = [trial for trial in study.trials if trial.params.get("optimizer") == name]
    return [trial.value for trial in sorted(trials, key=lambda trial: trial.params["seed"]) if trial.value is not None]


def test_seeds_pair_two_levels() -> None:
    study = study_of(grid(["Adam", "SGD"], 6))
    found = grouped(study, "optimizer")
    (entry,) = found.comparisons
    expected = stats.ttest_rel(values_of(study, "Adam"), values_of(study, "SGD"))
    assert (entry.measure, entry.tested.test, found.paired_by) == ("value", "paired t", ("seed",))
    assert entry.tested.p == entry.p_adjusted == pytest.approx(expected.pvalue)
    assert entry.levels[0].mean == pytest.approx(np.mean(values_of(study, "Adam")))
    assert [level.value for level in found.levels] == ["Adam", "SGD"]
    assert entry.values == {trial.number: trial.value for trial in study.trials}


def test_a_trial_that_lost_its_partner_is_not_tested() -> None:
    trials = grid(["Adam", "SGD"], 6)
    trials[8] = (trials[8][0], None)  # SGD with seed 2
    study = study_of(trials)
    found = grouped(study, "optimizer")
    adam = [value for seed, value in enumerate(values_of(study, "Adam")) if seed != 2]
    assert found.comparisons[0].tested.p == pytest.approx(stats.ttest_rel(adam, values_of(study, "SGD")).pvalue)
    assert found.unpaired == (2,)
    assert found.comparisons[0].levels[0].trials == 6


def test_trials_that_do_not_pair_are_tested_as_welch_did() -> None:
    draw = np.random.default_rng(0)
    trials: list[tuple[dict[str, Any], float | None]] = [
        ({"optimizer": name, "rate": float(draw.random()), "seed": number}, float(draw.normal()))
        for name in ("Adam", "SGD")
        for number in range(5)
    ]
    study = study_of(trials)
    found = grouped(study, "optimizer")
    expected = stats.ttest_ind(values_of(study, "Adam"), values_of(study, "SGD"), equal_var=False)
    assert (found.comparisons[0].tested.test, found.paired_by) == ("Welch's t", None)
    assert found.comparisons[0].tested.p == pytest.approx(expected.pvalue)


def test_a_seed_tried_twice_does_not_pair() -> None:
    assert grouped(study_of([*grid(["Adam", "SGD"], 4), *grid(["Adam"], 4)]), "optimizer").paired_by is None


def test_three_levels_are_tested_together() -> None:
    study = study_of(grid(["Adam", "SGD", "RMSprop"], 5))
    entry = grouped(study, "optimizer").comparisons[0]
    expected = stats.alexandergovern(*(values_of(study, name) for name in ("Adam", "RMSprop", "SGD")))
    assert entry.tested.p == pytest.approx(expected.pvalue)
    assert entry.tested.hedges_g is None


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_planted_difference_is_found_and_named(direction: str) -> None:
    trials = [
        (params, None if value is None else value + (2.0 if params["optimizer"] == "SGD" else 0.0))
        for params, value in grid(["Adam", "SGD"], 8)
    ]
    found = grouped(study_of(trials, direction), "optimizer")
    best, other = ("Adam", "SGD") if direction == "minimize" else ("SGD", "Adam")
    assert groups_reading(found) == f"{best} is better than {other} on value"
    (entry,) = found.comparisons
    assert entry.tested.difference == pytest.approx(-2.0, abs=0.2)


def test_too_few_trials_tell_nothing() -> None:
    found = grouped(study_of(grid(["Adam", "SGD"], 2)), "optimizer")
    assert found.comparisons[0].p_adjusted is None
    assert groups_reading(found) == "not enough trials to tell: Adam: 2, SGD: 2; 3 of each are needed"
    by_seed = groups_reading(grouped(study_of(grid(["Adam", "SGD"], 2)), "seed"))
    assert by_seed.startswith("not enough trials to tell: seed 0: 2, seed 1: 2;")


def test_one_level_or_none_leaves_nothing_to_compare() -> None:
    found = grouped(study_of(grid(["Adam"], 4)), "optimizer")
    assert groups_reading(found) == "nothing to compare: all 4 complete trials have Adam"
    failed = grouped(study_of([(params, None) for params, _ in grid(["Adam"], 3)]), "optimizer")
    assert groups_reading(failed) == "no complete trial to compare"
    assert method_lines(failed) == ["not compared, since pruned, diverged or failed: Adam: 3"]


def test_trials_that_did_not_complete_are_said() -> None:
    """One of Adam's failed, and all of RMSprop's: what is left of a level may be a chosen few."""
    trials = grid(["Adam", "SGD", "RMSprop"], 5)
    trials[1] = (trials[1][0], None)
    trials[10:] = [(params, None) for params, _ in trials[10:]]
    found = grouped(study_of(trials), "optimizer")
    assert [(level.value, len(level.trials), level.incomplete) for level in found.levels] == [
        ("Adam", 4, 1),
        ("SGD", 5, 0),
    ]
    assert [(level.value, level.incomplete) for level in found.lost] == [("RMSprop", 5)]
    assert (found.paired_by, found.unpaired) == (("seed",), (6,))
    lines = method_lines(found)
    assert "not compared, since pruned, diverged or failed: Adam: 1, RMSprop: 5" in lines
    assert "not tested, since without a partner: trial 6" in lines


def test_trials_without_the_parameter_are_left_out() -> None:
    study = study_of([*grid(["Adam", "SGD"], 3), ({"seed": 50}, 1.0)])
    assert grouped(study, "optimizer").inactive == 1


@pytest.mark.parametrize(("name", "hint"), [("optimiser", "Did you mean 'optimizer'"), ("zzz", "Valid: optimizer")])
def test_an_unknown_parameter_is_refused(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=r"--group-by: no such parameter was searched .*" + hint):
        analyze(study_of(grid(["Adam"], 2)), by=name)


def measures_of_nothing(draw: np.random.Generator, levels: int, trials: int, paired: bool) -> list[Comparison]:
    """Six measures on which no level differs; with pairs, trials of a seed move alike."""
    numbers = np.arange(levels * trials).reshape(levels, trials).tolist()
    pairing = Pairing(tuple(zip(*numbers, strict=True)), ("seed",), ()) if paired else None
    measures = []
    for place in range(6):
        values = draw.normal(size=(levels, trials)) + (draw.normal(size=trials) if paired else 0.0)
        flat = dict(enumerate(values.ravel().tolist()))
        measures.append(Measure(f"m{place}", "results", "lower", flat))
    return compared(measures, numbers, pairing)


@pytest.mark.parametrize(("levels", "trials", "paired"), [(2, 5, True), (2, 5, False), (3, 5, False)])
def test_where_nothing_differs_a_study_in_twenty_says_otherwise(levels: int, trials: int, paired: bool) -> None:
    """Of 200 such studies 10 are expected to have a false alarm on any measure; 19 or more have a chance of 0.4 %."""
    draw = np.random.default_rng(7)
    alarms = 0
    for _ in range(200):
        found = measures_of_nothing(draw, levels, trials, paired)
        alarms += any(entry.p_adjusted is not None and entry.p_adjusted <= 0.05 for entry in found)
    assert alarms <= 18
    assert alarms >= 1


def test_adjusted_chances_are_holms() -> None:
    found = measures_of_nothing(np.random.default_rng(1), 2, 6, False)
    chances = sorted((entry.tested.p or 0.0, entry.p_adjusted or 0.0) for entry in found)
    largest = 0.0
    for rank, (chance, adjusted) in enumerate(chances):
        largest = max(largest, chance * (6 - rank))
        assert adjusted == pytest.approx(min(1.0, largest))


TIMELINES = [
    {"name": name, "steps": 100, "keyframes": [{"STEP": 0, "PHASE": "early"}, {"STEP": 50, "PHASE": "late"}]}
    for name in ("calm", "wild")
]
STEPS = 800


def write_series(folder: Path, number: int, jitter: float, spikes: int, bend: float) -> None:
    """A loss term that falls, with spikes in its second half, and a path that bends."""
    draw = np.random.default_rng(number)
    curve = np.linspace(0, -4, STEPS) + jitter * draw.normal(size=STEPS)
    curve[[450 + 60 * place for place in range(spikes)]] += 20 * jitter
    times = np.arange(STEPS // 10)[:, None, None]
    arrays = {
        "recon": np.exp(curve).astype(np.float32),
        "learning_rate": np.ones(STEPS, dtype=np.float32),
        "trace_steps": 10 * np.arange(1, STEPS // 10 + 1),
        "trace.latent": (bend * times**2 * np.ones((1, 4, 2))).astype(np.float64),
    }
    (folder / "series").mkdir(exist_ok=True)
    with (folder / "series" / f"trial-{number:04d}.npz").open("wb") as file:
        np.savez_compressed(file, **arrays)


def study_with_files(folder: Path, trials: int = 5) -> optuna.Study:
    """Two timelines over seeds; `wild` has twice the noise, three spikes and a path that bends three times as much."""
    storage = BatchedStorage(optuna.storages.RDBStorage("sqlite://"))
    study = optuna.create_study(storage=storage)
    search = {"timeline": {"choices": TIMELINES}, "seed": {"low": 0, "high": 100}}
    study.set_user_attr("space", {"metric": "val_recon", "value": "best", "search": search})
    rows = EpochRows(storage)
    draw = np.random.default_rng(0)
    for number in range(2 * trials):
        wild, seed = number % 2, number // 2
        value = seed + (0.3 * (-1) ** seed if wild else 0.0)
        study.add_trial(
            create_trial(
                value=value,
                params={"timeline": wild, "seed": seed},
                distributions={name: DISTRIBUTIONS[name] for name in ("timeline", "seed")},
                user_attrs={"recipe": {"timeline": TIMELINES[wild]}, "epochs_done": 2, "epochs_asked": 2, "gap": 0.1},
            )
        )
        bend = (1 + 0.01 * draw.normal()) * (3 if wild else 1)
        write_series(folder, number, 0.2 if wild else 0.1, 3 if wild else 0, bend)
        for epoch, shift in ((1, 5.0), (2, 0.0)):
            values = {"train_recon": 1.0, "val_recon": value + shift, "val_loss": value + shift, "val_snr": float(seed)}
            rows.write([EpochRow(study.trials[-1]._trial_id, number, epoch, 0.1, 1.0, 1.0, values)])
    return study


def test_series_paths_and_epochs_become_measures(tmp_path: Path) -> None:
    study = study_with_files(tmp_path)
    found = grouped(study, "timeline", files=tmp_path)
    entries = {entry.measure: entry for entry in found.comparisons}
    assert [*entries] == [
        "best val_recon", "final val_snr", "gap",
        "variance of log recon", "spikes in recon", "highest rise of log recon", "roughness of latent",
    ]  # fmt: skip
    assert entries["best val_recon"].also == ("final val_recon", "final val_loss")
    assert {name: entry.better for name, entry in entries.items() if entry.better != "lower"} == {"final val_snr": None}

    calm, wild = (level.mean for level in entries["variance of log recon"].levels)
    assert (calm, wild) == (pytest.approx(0.01, rel=0.1), pytest.approx(0.04 + 3 * 4.0**2 / STEPS, rel=0.15))
    assert [level.mean for level in entries["spikes in recon"].levels] == [0.0, 3.0]
    assert entries["spikes in recon"].tested.reason == "every pair differs by the same"
    assert entries["highest rise of log recon"].levels[1].mean == pytest.approx(4.0, abs=0.5)
    rough = [level.mean or 0.0 for level in entries["roughness of latent"].levels]
    assert rough == pytest.approx([4 * 2 * 1.0, 4 * 2 * 9.0], rel=0.05)
    assert entries["roughness of latent"].p_adjusted is not None
    assert entries["roughness of latent"].p_adjusted < 0.01
    assert groups_reading(found) == (
        "calm is steadier than wild on variance of log recon, highest rise of log recon; "
        "calm is smoother than wild on roughness of latent; no difference on 1 other measure can be told from chance"
    )


def test_phases_of_the_timeline_are_told_apart(tmp_path: Path) -> None:
    study = study_with_files(tmp_path)
    found = grouped(study, "timeline", files=tmp_path)
    means = {(entry.phase, entry.measure): [level.mean for level in entry.levels] for entry in found.phases}
    assert {phase for phase, _ in means} == {"early", "late"}
    assert means["early", "spikes in recon"] == [0.0, 0.0]
    assert means["late", "spikes in recon"] == [0.0, 3.0]
    assert means["early", "variance of log recon"][1] == pytest.approx(0.04, rel=0.15)


def test_a_run_that_stopped_early_has_the_phases_it_reached(tmp_path: Path) -> None:
    """800 of 1,600 steps: the second phase begins at the half, which is where the run stopped."""
    study = study_with_files(tmp_path)
    stopped = optuna.create_study()
    stopped.set_user_attr("space", study.user_attrs["space"])
    for trial in study.trials:
        stopped.add_trial(
            create_trial(
                value=trial.value,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={**trial.user_attrs, "epochs_asked": 4},
            )
        )
    assert grouped(stopped, "timeline", files=tmp_path).phases == ()
    assert grouped(study, "timeline", files=tmp_path).phases != ()


def test_missing_and_damaged_series_are_said(tmp_path: Path) -> None:
    study = study_with_files(tmp_path)
    (tmp_path / "series" / "trial-0003.npz").write_bytes(b"PK\x03\x04 not a series")
    (tmp_path / "series" / "trial-0006.npz").unlink()
    found = grouped(study, "timeline", files=tmp_path)
    assert found.notes == ("no per-step series can be read of trials 3, 6",)
    entry = next(entry for entry in found.comparisons if entry.measure == "roughness of latent")
    assert [level.trials for level in entry.levels] == [4, 4]
    assert entry.tested.p is not None  # three pairs are left


def test_a_term_that_reaches_zero_is_measured_as_it_is(tmp_path: Path) -> None:
    study = study_with_files(tmp_path)
    path = tmp_path / "series" / "trial-0000.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["recon"][400] = 0.0
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    found = grouped(study, "timeline", files=tmp_path)
    assert "variance of recon" in {entry.measure for entry in found.comparisons}
    assert found.notes == ("recon is not always above 0: its noise is measured as it is, not its logarithm's",)


def test_a_plain_study_is_compared_by_its_values() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("k", 0, 1) * 5, n_trials=20)
    found = grouped(study, "k")
    (entry,) = found.comparisons
    assert entry.p_adjusted is not None and entry.p_adjusted < 0.01
    assert groups_reading(found) == "k 0 is better than k 1 on value"
    assert found.notes == ()
    assert not math.isnan(entry.tested.hedges_g or math.nan)
