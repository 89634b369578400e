"""What a search leaves in its study: states, reasons, budgets, resuming. The task is `files/tiny.py`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import SearchStoppedError, StudyChangedError
from tuner.events import EpochDone, Event, Note, TrialEnded
from tuner.search import SearchRequest, search

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def events(own_folder: Path) -> list[Event]:
    return []


@pytest.fixture
def run(events: list[Event]) -> Callable[..., Any]:
    def go(mode: str = "quick", target: str = "tiny.py", **more: Any) -> Any:
        keys = ("trials", "parallel", "fuse", "time", "stop_without_improvement")
        overrides = {"parallel": 1, **{key: more.pop(key) for key in keys if key in more}}
        return search(SearchRequest(target, mode, device="cpu", overrides=overrides, **more), events.append)

    return go


def trials(name: str = "tiny-quick") -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///studies/{name}.db").trials


def table(name: str) -> list[tuple[Any, ...]]:
    """All of the trial table that a resumed study must repeat."""
    return [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in trials(name)]


def test_a_search_records_all_that_is_promised(run, events) -> None:
    ended = run()
    found = trials()
    assert ended.counted == len(found) == 6
    for trial in found:
        attrs = trial.user_attrs
        assert trial.state == TrialState.COMPLETE
        assert trial.value == min(trial.intermediate_values.values())
        assert list(trial.intermediate_values) == [1, 2, 3, 4]
        assert attrs["gap"] == attrs["final_val_loss"] - attrs["final_train_loss"]
        assert (attrs["epochs_done"], attrs["epochs_asked"]) == (4, 4)
        assert attrs["recipe"]["learning_rate"] == trial.params["learning_rate"]
        assert attrs["recipe"]["model"]["hidden"] == trial.params["model.hidden"]
    assert ended.best_value == min(trial.value for trial in found)
    assert len([event for event in events if isinstance(event, EpochDone)]) == 24


def test_trial_0_is_the_default_recipe_moved_into_range(run, events) -> None:
    run()
    first = trials()[0]
    assert first.user_attrs["enqueued"] == "default recipe"
    assert first.params == {"learning_rate": 0.05, "model.hidden": 4}
    run(study="other", settings={"learning_rate": 1.0}, mode="infeasible")
    assert not any(isinstance(event, Note) and "learning_rate" in event.message for event in events)
    assert optuna.load_study(study_name="other", storage="sqlite:///studies/other.db").trials[0].params == {
        "model.hidden": 4
    }


def test_running_again_goes_on_to_the_larger_budget_and_no_further(run) -> None:
    assert run(trials=3).counted == 3
    before = table("tiny-quick")
    assert run(trials=3).counted == 3
    assert run(trials=6).counted == 6
    assert table("tiny-quick")[:3] == before


def test_a_search_in_two_parts_equals_one_in_one(run) -> None:
    run(trials=2)
    run(trials=6)
    parts = table("tiny-quick")
    run(studies=Path("whole"), trials=6)
    whole = optuna.load_study(study_name="tiny-quick", storage="sqlite:///whole/tiny-quick.db").trials
    assert parts == [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in whole]


@pytest.mark.parametrize("parallel", [2, 3])
def test_trials_in_flight_together_train_as_they_do_alone(run, parallel: int) -> None:
    """A random sampler proposes the same whatever is in flight; so then must the whole table be the same."""
    run(fuse="off")
    run(study="together", parallel=parallel, fuse="off")
    assert table("together") == table("tiny-quick")


def test_how_many_train_as_one_model_does_not_show(run) -> None:
    for parallel, fuse in ((2, "auto"), (5, "auto"), (6, 2)):
        run(study=f"by-{parallel}", parallel=parallel, fuse=fuse)
    assert table("by-2") == table("by-5") == table("by-6")
    assert {trial.user_attrs["trained"] for trial in trials("by-5")} == {"fused"}


def test_a_grid_tries_every_cell_once_and_says_so(run) -> None:
    ended = run("cells")
    found = trials("tiny-cells")
    assert len({str(sorted(trial.params.items())) for trial in found}) == len(found) == 6
    assert ended.reason == "every one of the 6 combinations is tried"
    assert run("cells").counted == 6


def test_faults_end_trials_in_states_that_tell_the_truth(run) -> None:
    run("faults")
    fine, nan, error, memory = trials("tiny-faults")
    assert fine.state == TrialState.COMPLETE
    assert nan.state == TrialState.PRUNED
    assert nan.user_attrs["reason"] == "diverged at epoch 1: train_loss is nan"
    assert nan.user_attrs["diverged"]
    assert error.state == TrialState.FAIL
    assert error.user_attrs["reason"] == "RuntimeError: this model never works"
    assert "Traceback" in error.user_attrs["traceback"]
    assert memory.state == TrialState.FAIL
    assert memory.user_attrs["reason"] == "out of memory"


def test_a_study_whose_first_trials_all_fail_alike_stops(run) -> None:
    with pytest.raises(SearchStoppedError, match=r"first 3 trials all failed alike.*this model never works"):
        run("hopeless")
    assert [trial.state for trial in trials("tiny-hopeless")] == [TrialState.FAIL] * 3


def test_pruning_ends_trials_early_and_spares_their_epochs(run) -> None:
    run("pruned")
    found = trials("tiny-pruned")
    pruned = [trial for trial in found if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        assert trial.user_attrs["epochs_done"] < 4
        assert trial.user_attrs["reason"] == f"pruned by the pruner at epoch {trial.user_attrs['epochs_done']}"


def test_median_pruning_follows_the_definition(run) -> None:
    """Recomputed by hand: pruned where the best so far is worse than the median of earlier trials at that epoch."""
    import statistics

    run("pruned")
    found = trials("tiny-pruned")
    for position, trial in enumerate(found):
        complete = [entry for entry in found[:position] if entry.state == TrialState.COMPLETE]
        expected = None
        for epoch in (2, 3):
            if len(complete) < 3 or epoch not in trial.intermediate_values:
                continue
            best = min(value for step, value in trial.intermediate_values.items() if step <= epoch)
            if expected is None and best > statistics.median(entry.intermediate_values[epoch] for entry in complete):
                expected = epoch
        if expected is None:
            assert trial.state == TrialState.COMPLETE
        else:
            assert trial.state == TrialState.PRUNED
            assert trial.user_attrs["epochs_done"] == expected


def test_a_small_space_is_exhausted_and_duplicates_do_not_count(run) -> None:
    ended = run("small")
    found = trials("tiny-small")
    counted = [trial for trial in found if "duplicate_of" not in trial.user_attrs]
    assert len(counted) == ended.counted == 4
    assert len({str(sorted(trial.params.items())) for trial in counted}) == 4
    assert ended.reason == "every one of the 4 combinations is tried"
    for trial in found:
        if "duplicate_of" in trial.user_attrs:
            assert trial.value == found[trial.user_attrs["duplicate_of"]].value


def test_infeasible_proposals_are_recorded_and_do_not_count(run) -> None:
    ended = run("infeasible")
    found = trials("tiny-infeasible")
    infeasible = [trial for trial in found if "infeasible" in trial.user_attrs]
    assert ended.counted == 5
    assert len(found) == 5 + len(infeasible)
    assert infeasible
    assert all(trial.params["model.hidden"] > 8 and not trial.intermediate_values for trial in infeasible)
    assert infeasible[0].user_attrs["reason"] == "infeasible: model.hidden <= 8"


@pytest.mark.slow
def test_a_thousand_infeasible_proposals_in_a_row_stop_the_study(run) -> None:
    with pytest.raises(SearchStoppedError, match=r"1,000 proposals in a row.*learning_rate > 1"):
        run("impossible")


def test_other_settings_run_nothing_and_show_the_difference(run) -> None:
    run()
    before = table("tiny-quick")
    text = Path("tiny.yaml").read_text()
    Path("tiny.yaml").write_text(text.replace("low: 1e-3, high: 1e-1", "low: 1e-4, high: 1e-1", 1))
    with pytest.raises(StudyChangedError, match=r"search\.learning_rate\.low: 0\.001 -> 0\.0001"):
        run(trials=8)
    assert table("tiny-quick") == before
    assert run(trials=8, accept_changes=True).counted == 8
    assert run(trials=9).counted == 9


def test_a_changed_task_file_is_a_difference(run) -> None:
    import sys

    run(trials=2)
    path = Path("tiny.py")
    path.write_text(path.read_text().replace("0.5", "0.25"))
    for name in [name for name in sys.modules if name.startswith("tuner_user_tiny")]:
        del sys.modules[name]
    with pytest.raises(StudyChangedError, match="source file has changed"):
        run(trials=3)


def test_stops_after_trials_without_improvement(run) -> None:
    ended = run(trials=50, stop_without_improvement=3)
    values = [trial.value for trial in trials()]
    assert ended.counted == values.index(min(values)) + 4
    assert ended.reason == "3 trials brought no improvement"


def test_the_time_is_a_total_over_runs(run) -> None:
    first = run(trials=100, time="0.5s")
    assert first.counted < 100
    assert first.reason == "the time of 0.5 s is used up"
    assert run(trials=100, time="0.5s").counted == first.counted


def test_keep_best_and_top_and_all(run) -> None:
    from tuner.training.weights import load_weights

    for keep, count in (("best", 1), ("top-3", 3), ("all", 6)):
        run(study=keep, keep=keep)
        ranked = sorted(
            optuna.load_study(study_name=keep, storage=f"sqlite:///studies/{keep}.db").trials, key=lambda t: t.value
        )
        kept = {path.stem for path in Path(f"studies/{keep}").glob("*.safetensors")}
        assert kept == {f"trial-{trial.number:04d}" for trial in ranked[:count]}
        assert kept == {path.stem for path in Path(f"studies/{keep}").glob("*.yaml")}
    weights = load_weights(Path("studies/all/trial-0000.safetensors"))
    assert weights["0.weight"].shape == (4, 3)


def test_series_are_kept_for_every_trial(run) -> None:
    import numpy as np

    run()
    paths = sorted(Path("studies/tiny-quick/series").glob("*.npz"))
    assert len(paths) == 6
    with np.load(paths[0]) as series:
        assert set(series) == {"mse", "l1", "loss", "learning_rate"}
        assert series["mse"].shape == (16,)


def test_enqueued_settings_come_after_the_default_recipe(run) -> None:
    Path("good.yaml").write_text("- {learning_rate: 0.02, model.hidden: 8}\n- {model: {hidden: 2}}\n")
    run(enqueue=Path("good.yaml"))
    _, second, third, *_ = trials()
    assert second.params == {"learning_rate": 0.02, "model.hidden": 8}
    assert third.params == {"learning_rate": 0.05, "model.hidden": 2}
    run(enqueue=Path("good.yaml"), trials=8)
    assert [trial.user_attrs.get("enqueued") for trial in trials()].count("good.yaml") == 2


def test_an_objective_function_runs_resumes_and_prunes(run) -> None:
    assert run(target="svc.py:objective", direction="maximize", trials=4).counted == 4
    assert run(target="svc.py:objective", direction="maximize", trials=6).best_value > 0.9
    run(target="svc.py:objective", study="whole", direction="maximize", trials=6)
    assert table("svc-quick") == table("whole")
    run(target="svc.py:prunes", study="prunes", trials=4)
    assert [trial.state.name for trial in trials("prunes")] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    with pytest.raises(SearchStoppedError, match="no such luck"):
        run(target="svc.py:always_fails", study="fails")


def test_events_tell_what_the_study_holds(run, events) -> None:
    run()
    ended = [event for event in events if isinstance(event, TrialEnded)]
    assert [(event.trial, event.value) for event in ended] == [(trial.number, trial.value) for trial in trials()]
    assert [event.counted for event in ended] == [1, 2, 3, 4, 5, 6]
    assert ended[-1].best_value == min(trial.value for trial in trials())


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "cmaes", "qmc", "grid"])
@pytest.mark.parametrize("pruner", ["none", "hyperband"])
def test_every_sampler_gives_the_same_table_in_parts(run, sampler: str, pruner: str) -> None:
    mode = "cells" if sampler == "grid" else "quick"
    overrides = {"sampler": sampler, "pruner": pruner, "study_seed": 3, "parallel": 1}
    settings: dict[str, Any] = {}
    for folder, parts in (("parts", (2, 5)), ("whole", (5,))):
        for count in parts:
            request = SearchRequest(
                "tiny.py",
                mode,
                studies=Path(folder),
                device="cpu",
                settings=settings,
                overrides={**overrides, "trials": count},
            )
            search(request, lambda event: None)
    name = f"tiny-{mode}"
    tables = [
        [
            (t.number, t.state, t.params, t.values, t.intermediate_values)
            for t in optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/{name}.db").trials
        ]
        for folder in ("parts", "whole")
    ]
    assert tables[0] == tables[1]


def test_a_restarted_trial_is_pruned_where_it_would_have_been(run, monkeypatch) -> None:
    """Successive halving notes its rungs on the trial; a round that is not written leaves none."""
    from tuner.rounds.recording import Recorder

    request = SearchRequest(
        "tiny.py", "pruned", device="cpu", overrides={"pruner": "asha", "trials": 12}, studies=Path("whole")
    )
    search(request, lambda event: None)
    whole = optuna.load_study(study_name="tiny-pruned", storage="sqlite:///whole/tiny-pruned.db").trials
    assert any(trial.state == TrialState.PRUNED for trial in whole)
    end, killed = Recorder.end, set()

    def die_once(self: Recorder, flight: Any) -> None:
        if flight.outcome[0] == TrialState.PRUNED and flight.number not in killed:
            killed.add(flight.number)
            raise KeyboardInterrupt
        end(self, flight)

    monkeypatch.setattr(Recorder, "end", die_once)
    for _ in whole:
        with contextlib.suppress(KeyboardInterrupt):
            search(replace(request, studies=Path("studies")), lambda event: None)
    assert killed
    assert [(t.number, t.state, t.values, t.intermediate_values) for t in trials("tiny-pruned")] == [
        (t.number, t.state, t.values, t.intermediate_values) for t in whole
    ]


def test_a_study_keeps_the_meaning_of_its_values(run) -> None:
    run(trials=2)
    text = Path("tiny.yaml").read_text()
    for before, after in (("minimize", "maximize"), ("val_mse", "val_l1"), ("log: true", "log: false")):
        Path("tiny.yaml").write_text(text.replace(before, after))
        with pytest.raises(StudyChangedError, match="cannot hold"):
            run(trials=3, accept_changes=True)
    Path("tiny.yaml").write_text(text)
    assert run(trials=3).counted == 3


def test_accepted_changes_make_the_combinations_new(run) -> None:
    assert run("cells").counted == 6
    text = Path("tiny.yaml").read_text()
    Path("tiny.yaml").write_text(text.replace("epochs: 4", "epochs: 2"))
    assert run("cells", accept_changes=True).counted == 12


def test_values_queued_from_outside_that_do_not_fit_fail_and_the_study_goes_on(run) -> None:
    run(trials=2)
    study = optuna.load_study(study_name="tiny-quick", storage="sqlite:///studies/tiny-quick.db")
    study.enqueue_trial({"learning_rate": 0.01, "model.hidden": 3})
    study.enqueue_trial({"learning_rate": 0.01, "model.hidden": 8})
    run(trials=5)
    found = trials()
    assert found[2].state == TrialState.FAIL
    assert "do not fit the search space" in found[2].user_attrs["reason"]
    assert found[3].params == {"learning_rate": 0.01, "model.hidden": 8}
    assert len(found) == 5


def test_trials_of_plain_optuna_in_the_same_study_are_taken_over(run) -> None:
    """`Objective` in `study.optimize`, cut off in training: the conductor goes on with its trial."""
    from tuner.objective import Objective

    run(trials=2)
    study = optuna.load_study(study_name="tiny-quick", storage="sqlite:///studies/tiny-quick.db")
    objective = Objective("tiny.py")
    trial = study.ask()
    recipe, _ = objective.space.recipe_for(objective.space.suggest(trial))
    trial.set_user_attr("recipe", recipe.model_dump())
    drawn = dict(trial.params)
    assert run(trials=4).counted == 4
    assert trials()[2].params == drawn
    assert trials()[2].state == TrialState.COMPLETE


def test_an_objective_that_exits_or_gives_no_finite_value_does_not_stop_the_study(run) -> None:
    Path("odd.py").write_text(
        "import sys\n"
        "def objective(trial):\n"
        "    x = trial.suggest_float('x', 0, 1)\n"
        "    if trial.number == 1: sys.exit(3)\n"
        "    if trial.number == 2: return float('-inf')\n"
        "    if trial.number == 3: return None\n"
        "    return x\n"
    )
    ended = run(target="odd.py:objective", study="odd", trials=5)
    assert [trial.state.name for trial in trials("odd")] == ["COMPLETE", "FAIL", "PRUNED", "FAIL", "COMPLETE"]
    assert trials("odd")[2].user_attrs["reason"] == "diverged: the objective gave -inf"
    assert ended.best_value == min(trials("odd")[0].value, trials("odd")[4].value)


def test_an_objective_cut_off_between_two_suggestions_draws_the_same_again(run, monkeypatch) -> None:
    Path("two.py").write_text(
        "def objective(trial):\n"
        "    a = trial.suggest_float('a', 0, 1)\n"
        "    if HOOK[0] and trial.number == 2: HOOK[0] = False; raise KeyboardInterrupt\n"
        "    return a + trial.suggest_float('b', 0, 1)\n"
        "HOOK = [False]\n"
    )
    run(target="two.py:objective", study="whole", trials=4)
    from tuner.registry import load_file

    load_file(Path("two.py")).HOOK[0] = True
    with pytest.raises(KeyboardInterrupt):
        run(target="two.py:objective", study="parts", trials=4)
    run(target="two.py:objective", study="parts", trials=4)
    assert table("parts") == table("whole")


def test_a_stop_leaves_no_trial_running(run) -> None:
    with pytest.raises(SearchStoppedError):
        run("hopeless", parallel=5)
    assert {trial.state for trial in trials("tiny-hopeless")} == {TrialState.FAIL}


def test_data_options_reach_the_batches_of_every_trial(run) -> None:
    """Augmentation strength searched: two trials in flight each see their own."""
    Path("noisy.py").write_text(
        Path("tiny.py").read_text().replace('"samples": 64}', '"samples": 64, "noise": 0.0}')
        + "\n    def batch(self, data, index, properties, generator):\n"
        "        rows = data.rows(index)\n"
        "        noise = torch.randn(rows.inputs.shape, generator=generator)\n"
        "        return type(rows)(rows.inputs + properties['noise'] * noise, rows.targets)\n"
    )
    space = Path("tiny.yaml").read_text().replace("task: tiny.py", "task: noisy.py")
    Path("noisy.yaml").write_text(
        space.replace("model.hidden: {choices: [2, 4, 8]}", "data.noise: {low: 0.0, high: 1.0}")
    )
    run(target="noisy.py", study="one")
    run(target="noisy.py", study="two", parallel=3, fuse="off")
    assert table("one") == table("two")


def test_epoch_rows_of_a_copied_study_stay_apart(run) -> None:
    import shutil

    from tuner.storage.studies import Studies

    run(study="a", trials=2)
    shutil.copy("studies/a.db", "studies/b.db")
    run(study="b", trials=2)
    opened = Studies(Path("studies")).load("b")
    ids = [trial._trial_id for trial in opened.study.trials]
    assert len(opened.epochs.read(ids)) == 8
