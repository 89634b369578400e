"""Samplers and pruners by name: what is built, and which options are refused."""

from __future__ import annotations

import inspect

import optuna
import pytest

from tuner.errors import UsageError
from tuner.proposing.pruners import build_pruner, check_pruner
from tuner.proposing.samplers import build_sampler, check_sampler
from tuner.search_space.file import PRUNERS, SAMPLERS

SAMPLER_CLASSES = {
    "random": optuna.samplers.RandomSampler,
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "qmc": optuna.samplers.QMCSampler,
}
PRUNER_CLASSES = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "asha": optuna.pruners.SuccessiveHalvingPruner,
    "patient": optuna.pruners.PatientPruner,
    "threshold": optuna.pruners.ThresholdPruner,
}
OURS = {"seed", "independent_sampler", "constraints_func", "gamma", "weights", "source_trials"}


def test_every_name_is_covered():
    assert {*SAMPLER_CLASSES, "grid"} == set(SAMPLERS)
    assert set(PRUNER_CLASSES) == set(PRUNERS)


@pytest.mark.parametrize("name", SAMPLER_CLASSES)
def test_a_sampler_builds_with_its_defaults(name):
    check_sampler(name, {}, "space.yaml: modes.full")
    assert isinstance(build_sampler(name, {}, study_seed=2**63 - 1), SAMPLER_CLASSES[name])


def test_the_grid_has_no_options():
    check_sampler("grid", {}, "x")
    with pytest.raises(UsageError, match=r"x\.sampler_kwargs\.seed"):
        check_sampler("grid", {"seed": 1}, "x")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of options that Optuna will drop
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", SAMPLER_CLASSES)
def test_every_option_of_optunas_is_known_and_ours_are_refused(name):
    for option in inspect.signature(SAMPLER_CLASSES[name]).parameters:
        if option in OURS:
            with pytest.raises(UsageError, match=f"'{option}' is set by") as caught:
                check_sampler(name, {option: 1}, "x")
            assert caught.value.place == f"x.sampler_kwargs.{option}"
        else:
            try:
                check_sampler(name, {option: 1}, "x")
            except UsageError as error:
                assert "no option" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("name", "option", "nearest"),
    [
        ("tpe", "n_startup_trails", "n_startup_trials"),
        ("tpe", "multivarate", "multivariate"),
        ("cmaes", "pop_size", "popsize"),
        ("qmc", "qmctype", "qmc_type"),
        ("gp", "startup_trials", "n_startup_trials"),
        ("random", "sed", ""),
    ],
)
def test_an_unknown_option_names_the_nearest(name, option, nearest):
    with pytest.raises(UsageError, match=f"no option '{option}'") as caught:
        check_sampler(name, {option: 3}, "space.yaml: modes.full")
    assert caught.value.place == f"space.yaml: modes.full.sampler_kwargs.{option}"
    assert nearest in caught.value.hint


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tpe", {"n_startup_trials": 3, "n_ei_candidates": 50, "multivariate": False, "group": False}),
        ("gp", {"n_startup_trials": 3, "deterministic_objective": True}),
        ("cmaes", {"n_startup_trials": 2, "popsize": 6, "use_separable_cma": True}),
        ("qmc", {"qmc_type": "halton"}),
    ],
)
def test_options_reach_the_sampler(name, options):
    check_sampler(name, options, "x")
    assert isinstance(build_sampler(name, options, study_seed=1), SAMPLER_CLASSES[name])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("qmc", {"qmc_type": "sobel"}),
        ("tpe", {"multivariate": False, "group": True}),
        ("cmaes", {"use_separable_cma": True, "with_margin": True}),
    ],
)
def test_what_a_sampler_refuses_is_a_message(name, options):
    with pytest.raises(UsageError, match=r"x\.sampler_kwargs"):
        check_sampler(name, options, "x")


@pytest.mark.parametrize("name", [name for name in PRUNER_CLASSES if name != "threshold"])
def test_a_pruner_builds_with_its_defaults(name):
    check_pruner(name, {}, "space.yaml: modes.full")
    assert isinstance(build_pruner(name, {}, most_epochs=27), PRUNER_CLASSES[name])


def test_a_threshold_pruner_needs_its_threshold():
    with pytest.raises(UsageError, match=r"x\.pruner_kwargs.*threshold"):
        check_pruner("threshold", {}, "x")
    check_pruner("threshold", {"upper": 3.0}, "x")
    assert isinstance(build_pruner("threshold", {"upper": 3.0}, 9), PRUNER_CLASSES["threshold"])


@pytest.mark.parametrize(
    ("name", "option", "nearest"),
    [
        ("median", "n_warmup_step", "n_warmup_steps"),
        ("hyperband", "reduction", "reduction_factor"),
        ("asha", "min_resorce", "min_resource"),
        ("patient", "patence", "patience"),
    ],
)
def test_an_unknown_pruner_option_names_the_nearest(name, option, nearest):
    with pytest.raises(UsageError, match=f"no option '{option}'") as caught:
        check_pruner(name, {option: 3}, "x")
    assert caught.value.place == f"x.pruner_kwargs.{option}"
    assert nearest in caught.value.hint


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("percentile", {"percentile": 200.0}),
        ("median", {"n_startup_trials": -1}),
        ("asha", {"reduction_factor": 1}),
        ("hyperband", {"reduction_factor": 1}),
        ("hyperband", {"min_resource": 0}),
        ("patient", {"patience": -1}),
        ("patient", {"wrapped_pruner": "patient"}),
        ("patient", {"wrapped_pruner": "medain"}),
    ],
)
def test_what_a_pruner_refuses_is_a_message(name, options):
    with pytest.raises(UsageError, match=r"x\.pruner_kwargs"):
        check_pruner(name, options, "x")


def test_a_wrapped_pruner_is_built_by_name():
    for wrapped in ("median", "asha", "hyperband", "none", None):
        check_pruner("patient", {"wrapped_pruner": wrapped}, "x")
        assert isinstance(build_pruner("patient", {"wrapped_pruner": wrapped}, 9), PRUNER_CLASSES["patient"])


def pruned_at(study: optuna.Study, values: list[float]) -> int | None:
    """Train a trial with these values; the epoch it was pruned at."""
    trial = study.ask()
    for epoch, value in enumerate(values, 1):
        trial.report(value, epoch)
        if trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return epoch
    study.tell(trial, values[-1])
    return None


@pytest.mark.parametrize("name", ["median", "percentile", "hyperband", "asha", "patient", "threshold"])
def test_a_pruner_stops_hopeless_trials_and_spares_the_best(name):
    """Twelve trials come down to 1.0; of those that stay at 9 most must end early, and one at 0.1 must not."""
    study = optuna.create_study(pruner=build_pruner(name, {"upper": 5.0} if name == "threshold" else {}, 8))
    for number in range(12):
        pruned_at(study, [2.0 + number / 100 - epoch / 8 for epoch in range(8)])
    hopeless = [pruned_at(study, [9.0 + number + epoch / 10 for epoch in range(8)]) for number in range(4)]
    assert sum(epoch is not None for epoch in hopeless) >= 2
    assert pruned_at(study, [0.5 - epoch / 20 for epoch in range(8)]) is None
