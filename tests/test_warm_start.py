"""A search that begins with what an earlier study found (`--warm-start`). The task is `files/tiny.py`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from tuner.analysis import analyze
from tuner.errors import StorageError, StudyChangedError, StudyNotFoundError, UsageError
from tuner.events import EpochDone, Event, Note, TrialStarted
from tuner.proposing import earlier
from tuner.search import SearchRequest, search
from tuner.storage.studies import Studies

optuna.logging.set_verbosity(optuna.logging.WARNING)

RATE = {"learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}
CELLS = {"learning_rate": {"choices": [0.01, 0.02, 0.05]}, "model.hidden": {"choices": [2, 4]}}


@pytest.fixture
def events(own_folder: Path) -> list[Event]:
    return []


@pytest.fixture
def run(events: list[Event]) -> Callable[..., Any]:
    """Search `space` (a mode as a search space's file has it) as the study `name`; the events are those of this run."""

    def go(name: str, mode: dict[str, Any] | None = None, target: str = "tiny.py", **more: Any) -> Any:
        recipe = {"epochs": 2, "batch_size": 8, "learning_rate": 0.05, "loss": "mse", **more.pop("recipe", {})}
        head = {"task": target, "metric": "val_mse", "direction": "minimize", **more.pop("head", {})}
        mode = {"sampler": "random", "trials": 8, "search": RATE, "parallel": 1, **(mode or {})}
        path = Path(f"{name}.yaml")
        path.write_text(yaml.safe_dump({**head, "recipe": recipe, "modes": {"full": mode}}))
        events.clear()
        request = SearchRequest(target, "full", study=name, space_file=path, device="cpu", **more)
        return search(request, events.append)

    return go


def trials(name: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///studies/{name}.db").trials


def split(name: str) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
    """A study's trials that were taken over, and its own."""
    found = trials(name)
    taken = [trial for trial in found if "warm_start" in trial.user_attrs]
    return taken, found[len(taken) :]


def notes(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Note)]


def trained(events: list[Event]) -> set[int]:
    """The trials of which an epoch was trained."""
    return {event.trial for event in events if isinstance(event, EpochDone)}


def test_trials_are_taken_over_as_they_are_and_none_is_trained_again(run, events) -> None:
    run("old")
    ended = run("new", {"trials": 3}, warm_start="old")
    before = sorted(trials("old"), key=lambda trial: trial.value)
    taken, own = split("new")
    assert [trial.number for trial in taken + own] == list(range(11))
    for was, now in zip(before, taken, strict=True):
        assert (now.state, now.value, now.params) == (TrialState.COMPLETE, was.value, was.params)
        assert now.intermediate_values == was.intermediate_values
        assert now.distributions == was.distributions
        assert now.user_attrs["warm_start"] == {"study": "old", "trial": was.number}
        for key in ("recipe", "values", "gap", "best_epoch", "epochs_done", "epochs_asked", "best_val_loss", "seconds"):
            assert now.user_attrs[key] == was.user_attrs[key]
    assert trained(events) == {8, 9, 10}
    assert not {str(trial.params) for trial in own} & {str(trial.params) for trial in taken}
    assert ended.counted == 3
    assert notes(events) == ["8 of 8 trials of old taken over"]


def test_epochs_and_series_come_with_them(run) -> None:
    run("old")
    run("new", {"trials": 1}, warm_start="old")
    old, new = Studies(Path("studies")).load("old"), Studies(Path("studies")).load("new")
    rows, came = old.epochs.read(), new.epochs.read()
    for trial in split("new")[0]:
        number = trial.user_attrs["warm_start"]["trial"]
        was = [row for row in rows if row["trial"] == number]
        now = [row for row in came if row["trial"] == trial.number]
        assert len(was) == 2
        assert {row["trial_id"] for row in now} == {new.study.trials[trial.number]._trial_id}
        assert [without_ids(row) for row in was] == [without_ids(row) for row in now]
        there, here = (Path("studies", name, "series") for name in ("old", "new"))
        series = there / f"trial-{number:04d}.npz"
        assert series.read_bytes() == (here / f"trial-{trial.number:04d}.npz").read_bytes()


def without_ids(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("trial", "trial_id")}


def test_the_parameters_stand_in_the_new_ranges(run, events) -> None:
    """Only what lies within them is taken over, and the sampler is asked over the new ranges alone."""
    run("old", {"trials": 12})
    narrow = {"learning_rate": {"low": 1e-2, "high": 5e-2, "log": True}}
    run("new", {"trials": 2, "search": narrow}, warm_start="old")
    taken, own = split("new")
    inside = [trial for trial in trials("old") if 1e-2 <= trial.params["learning_rate"] <= 5e-2]
    assert sorted(trial.value for trial in taken) == sorted(trial.value for trial in inside)
    for trial in taken + own:
        distribution = trial.distributions["learning_rate"]
        assert (distribution.low, distribution.high) == (1e-2, 5e-2)
    outside = 12 - len(inside)
    assert f"{outside} with learning_rate out of range" in notes(events)[0]


def test_tpe_learns_from_them(run) -> None:
    """Small learning rates are bad here: one who knows it proposes large ones from the first trial on."""
    run("old", {"trials": 24})
    mode = {"sampler": "tpe", "trials": 8, "study_seed": 3}
    run("warm", mode, warm_start="old")
    run("cold", mode)
    own = split("warm")[1]
    warm = statistics.median(math.log10(trial.params["learning_rate"]) for trial in own)
    cold = statistics.median(math.log10(trial.params["learning_rate"]) for trial in trials("cold"))
    assert warm > math.log10(0.06) > cold + 0.1


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "qmc", "random"])
def test_every_sampler_goes_on_after_them(run, events, sampler: str) -> None:
    two = {**RATE, "model.dropout": {"low": 0.0, "high": 0.5}}
    run("old", {"trials": 12, "search": two})
    assert run("new", {"sampler": sampler, "trials": 3, "search": two}, warm_start="old").counted == 3
    assert trained(events) == {12, 13, 14}


@pytest.mark.parametrize("pruner", ["hyperband", "asha", "median"])
def test_every_pruner_goes_on_after_them(run, pruner: str) -> None:
    mode = {"sampler": "tpe", "pruner": pruner, "trials": 4, "parallel": 2}
    run("old", {"trials": 6})
    assert run("new", mode, warm_start="old").counted == 4


def test_a_grid_trains_only_the_cells_that_are_not_known(run, events) -> None:
    run("old", {"sampler": "grid", "trials": 4, "search": CELLS})
    ended = run("new", {"sampler": "grid", "trials": None, "search": CELLS}, warm_start="old")
    taken, own = split("new")
    cells = {(trial.params["learning_rate"], trial.params["model.hidden"]) for trial in taken + own}
    assert (len(taken), len(own), len(cells)) == (4, 2, 6)
    assert trained(events) == {trial.number for trial in own}
    assert ended.reason == "every one of the 6 combinations is tried"


def test_where_all_is_known_nothing_is_trained(run, events) -> None:
    run("old", {"sampler": "grid", "trials": None, "search": CELLS})
    ended = run("new", {"sampler": "tpe", "trials": 50, "search": CELLS}, warm_start="old")
    assert (ended.counted, len(trials("new")), trained(events)) == (0, 6, set())
    assert ended.reason == "every one of the 6 combinations is tried"
    assert ended.best_value == min(trial.value for trial in trials("old"))


def test_a_proposal_of_a_known_recipe_is_its_duplicate(run, events) -> None:
    run("old")
    known = trials("old")[3]
    Path("queue.yaml").write_text(yaml.safe_dump([{"learning_rate": known.params["learning_rate"]}]))
    run("new", {"trials": 1}, warm_start="old", enqueue=Path("queue.yaml"))
    duplicate = next(trial for trial in trials("new") if "duplicate_of" in trial.user_attrs)
    original = trials("new")[duplicate.user_attrs["duplicate_of"]]
    assert original.user_attrs["warm_start"] == {"study": "old", "trial": 3}
    assert (duplicate.value, duplicate.intermediate_values) == (known.value, known.intermediate_values)
    assert duplicate.number not in trained(events)


def test_the_default_recipe_is_not_trained_again(run) -> None:
    run("old")
    run("new", {"trials": 2}, warm_start="old")
    queued = [trial for trial in trials("new") if trial.user_attrs.get("enqueued") == "default recipe"]
    assert [trial.user_attrs["warm_start"] for trial in queued] == [{"study": "old", "trial": 0}]
    gain = analyze(Studies(Path("studies")).load("new").study).gain
    assert gain is not None and gain.value == trials("old")[0].value


def test_with_other_epochs_the_best_settings_are_trained_anew(run, events) -> None:
    run("old", {"trials": 7})
    run("new", {"trials": 7}, recipe={"epochs": 3}, warm_start="old")
    assert notes(events) == [
        "0 of 7 trials of old taken over; not taken: 7 with another value of epochs (now 3); "
        "4 of its best settings queued"
    ]
    found = trials("new")
    best = sorted(trials("old"), key=lambda trial: trial.value)[:5]
    rates = [trial.params["learning_rate"] for trial in best if trial.number != 0]  # 0 was the default, as it is here
    assert found[0].user_attrs["enqueued"] == "default recipe"
    assert [trial.params["learning_rate"] for trial in found[1 : 1 + len(rates)]] == rates
    assert found[1].user_attrs["enqueued"].startswith("old, trial ")
    assert trained(events) == set(range(7))


def test_a_fixed_value_keeps_the_settings_apart_that_are_queued(run) -> None:
    """Of settings that become one and the same in the new space, one is tried."""
    run("old", {"sampler": "grid", "trials": None, "search": CELLS})
    run("new", {"trials": 9, "search": {"learning_rate": CELLS["learning_rate"]}}, warm_start="old",
        recipe={"model": {"hidden": 8}})  # fmt: skip
    rates = [trial.params["learning_rate"] for trial in trials("new")]
    assert sorted(rates) == [0.01, 0.02, 0.05]


@pytest.mark.slow
def test_diverged_trials_are_taken_over_and_pruned_or_failed_ones_are_not(run, events) -> None:
    faults = {"model.fault": {"choices": ["none", "nan", "error"]}}
    run("faults", {"sampler": "grid", "trials": None, "search": faults})
    run("new", {"sampler": "tpe", "trials": 1, "search": {**faults, **RATE}}, warm_start="faults")
    taken = split("new")[0]
    assert [(trial.state, trial.params["model.fault"]) for trial in taken] == [
        (TrialState.COMPLETE, "none"),
        (TrialState.PRUNED, "nan"),
    ]
    assert taken[1].user_attrs["diverged"] is True
    assert notes(events)[0] == "2 of 3 trials of faults taken over, 1 of them diverged; not taken: 1 failed"
    run("pruned", {"trials": 12, "pruner": "threshold", "pruner_kwargs": {"upper": 2.5}})
    run("again", {"trials": 1}, warm_start="pruned")
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials("pruned"))
    assert pruned > 0
    assert f"{pruned} pruned" in notes(events)[0]
    assert len(split("again")[0]) == 12 - pruned


@pytest.mark.slow
def test_running_again_goes_on_and_takes_nothing_over_twice(run, events) -> None:
    run("old")
    run("new", {"trials": 2}, warm_start="old")
    assert run("new", {"trials": 3}, warm_start="old").counted == 3
    assert run("new", {"trials": 4}, warm_start="studies/old.db").counted == 4
    assert run("new", {"trials": 5}).counted == 5
    Path("studies/old.db").unlink()
    assert run("new", {"trials": 6}, warm_start="old").counted == 6
    assert [len(part) for part in split("new")] == [8, 6]
    run("whole", {"trials": 6}, warm_start="new")
    assert len(split("whole")[0]) == 14


@pytest.mark.parametrize("given", ["studies/old.db:old", "sqlite:///studies/old.db", "sqlite:///studies/old.db:old"])
def test_the_earlier_study_is_named_as_everywhere(run, events, given: str) -> None:
    run("old")
    run("new", {"trials": 1}, warm_start=given)
    assert notes(events) == ["8 of 8 trials of old taken over"]
    assert run("new", {"trials": 2}, warm_start="old").counted == 2
    with pytest.raises(UsageError, match="cannot take over from itself"):
        run("other", {"trials": 1}, warm_start="studies/other.db")


@pytest.mark.slow
def test_a_search_in_two_parts_equals_one_in_one(run) -> None:
    run("old")
    mode = {"sampler": "tpe", "parallel": 2, "pruner": "median"}
    for total in (2, 4, 6):
        run("parts", {**mode, "trials": total}, warm_start="old")
    run("whole", {**mode, "trials": 6, "parallel": 2}, warm_start="old")
    rows = [[(t.number, t.params, t.state, t.intermediate_values) for t in trials(name)[:10]] for name in
            ("parts", "whole")]  # fmt: skip
    assert rows[0] == rows[1]


def test_a_study_that_is_there_takes_over_from_no_other(run) -> None:
    run("old", {"trials": 3})
    run("other", {"trials": 3})
    run("new", {"trials": 2}, warm_start="old")
    with pytest.raises(StudyChangedError, match=r"new: --warm-start: the study began with old \(got 'other'\)"):
        run("new", {"trials": 2}, warm_start="other")
    with pytest.raises(StudyChangedError, match="the study began without it"):
        run("other", {"trials": 4}, warm_start="old")


@pytest.mark.slow
def test_only_its_own_trials_count_for_stopping(run) -> None:
    run("old", {"trials": 12})
    ended = run("new", {"trials": 30, "stop_without_improvement": 4, "sampler": "random"}, warm_start="old")
    best = min(trials("old"), key=lambda trial: trial.value)
    assert ended.reason == "4 trials brought no improvement"
    assert ended.counted >= 4
    assert ended.best_value <= best.value


def test_its_weights_are_there_to_use(run, tuner) -> None:
    run("old")
    run("new", {"trials": 1}, warm_start="old", keep="all")
    best = min(trials("old"), key=lambda trial: trial.value).number
    assert tuner("export", "new", "--trial", "0", "--out", "out").code == 0
    kept = Path("studies/old", f"trial-{best:04d}.safetensors")
    assert Path("out/weights.safetensors").read_bytes() == kept.read_bytes()
    assert tuner("train", "--from", "new", "--trial", "0", "--out", "again").code == 0
    assert trials("new")[0].user_attrs["weights"] == "new/trial-0000.safetensors"
    assert "weights" not in trials("new")[1].user_attrs


def test_weights_are_kept_of_the_best_that_has_some(run) -> None:
    """The earlier study's best is not among those that have weights: then the best of this search keeps its own."""
    run("old")
    for path in Path("studies/old").glob("trial-*"):
        path.unlink()
    run("new", {"trials": 3}, warm_start="old")
    own = min(split("new")[1], key=lambda trial: trial.value)
    assert [path.name for path in Path("studies/new").glob("*.safetensors")] == [f"trial-{own.number:04d}.safetensors"]


def test_no_more_than_the_best_thousand_are_taken_over(run, events, monkeypatch) -> None:
    monkeypatch.setattr(earlier, "MOST_TRIALS", 5)
    run("old")
    run("new", {"trials": 1}, warm_start="old")
    assert [trial.value for trial in split("new")[0]] == sorted(trial.value for trial in trials("old"))[:5]
    assert notes(events)[0] == "5 of 8 trials of old taken over; not taken: 3 beyond the best 5"


def test_a_changed_task_has_its_best_settings_trained_anew(run, events) -> None:
    run("old")
    Path("tiny.py").write_text(Path("tiny.py").read_text() + "\n# better now\n")
    run("new", {"trials": 6}, warm_start="old")
    assert "8 of another version of the task's source" in notes(events)[0]
    assert trained(events) == set(range(6))


def test_another_kind_of_value_has_its_best_settings_trained_anew(run, events) -> None:
    run("old")
    run("new", {"trials": 6}, head={"value": "last"}, warm_start="old")
    assert "8 valued by their best epoch (now last)" in notes(events)[0]


def test_results_of_other_versions_draw_a_warning(run, events) -> None:
    run("old")
    study = optuna.load_study(study_name="old", storage="sqlite:///studies/old.db")
    study.set_user_attr("versions", {**study.user_attrs["versions"], "torch": "1.0"})
    run("new", {"trials": 1}, warm_start="old")
    warning = next(event for event in events if isinstance(event, Note) and event.level == "warning")
    assert warning.message.startswith("the trials taken over were trained elsewhere: torch 1.0 -> ")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("old", {"head": {"metric": "val_l1"}}, "its metric is val_mse, and that of this search is val_l1"),
        ("old", {"head": {"direction": "maximize"}}, "its direction is minimize, and that of this search is maximize"),
        ("odl", {}, "there is no study 'odl' in .*Did you mean 'old'"),
        ("no/such.db", {}, "there is no file 'no/such.db'"),
        ("studies/new.db", {}, "a study cannot take over from itself"),
        ("a b", {}, "a study's name is made of letters"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(run, name: str, change: Any, message: str) -> None:
    run("old", {"trials": 1})
    with pytest.raises(UsageError, match=message) as raised:
        run("new", warm_start=name, **change)
    assert "--warm-start" in str(raised.value)
    assert not Path("studies/new.db").exists()
    assert isinstance(raised.value, StudyNotFoundError) == message.startswith("there is no ")


def test_other_tasks_and_other_programs_give_nothing(run) -> None:
    run("old", {"trials": 1})
    Path("other.py").write_text(Path("tiny.py").read_text() + "\n# another\n")
    with pytest.raises(UsageError, match=r"its task is tiny\.py, and that of this search is .*other\.py"):
        run("new", target="other.py", warm_start="old")
    optuna.create_study(study_name="plain", storage="sqlite:///studies/plain.db")
    with pytest.raises(UsageError, match="made by another program"):
        run("new", warm_start="plain")
    Path("script.py").write_text("def objective(trial):\n    return trial.suggest_float('x', 0, 1)\n")
    with pytest.raises(UsageError, match="an objective function suggests its own values"):
        search(SearchRequest("script.py:objective", "full", warm_start="old"), lambda event: None)


def test_a_damaged_database_is_named(run) -> None:
    Path("broken.db").write_bytes(b"nothing of the kind")
    with pytest.raises(StorageError, match=r"broken\.db: not a SQLite database"):
        run("new", warm_start="broken.db")
    run("old", {"trials": 2})
    database = Path("studies/old.db")
    optuna.load_study(study_name="old", storage="sqlite:///studies/old.db")._storage._backend.engine.dispose()
    content = database.read_bytes()
    database.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    with pytest.raises(StorageError, match=r"old\.db: the database is damaged"):
        run("new", warm_start="old")
    assert not Path("studies/new.db").exists()


def test_list_and_analyze_tell_the_two_apart(run, tuner) -> None:
    run("old")
    run("new", {"trials": 3}, warm_start="old")
    assert "3/3" in tuner("list").out
    found = analyze(Studies(Path("studies")).load("new").study, top=20)
    assert (found.counts.counted, found.counts.complete, found.counts.earlier) == (3, 11, {"complete": 8})
    assert len(found.top.trials) == 11
    assert sum(level.trials for level in found.impact.parameters[0].levels) == 11
    assert found.total_seconds == sum(trial.user_attrs["seconds"] for trial in split("new")[1])
    out = tuner("analyze", "new").out
    assert "3 of 3 trials: 3 complete" in out
    assert "8 trials from old" in out


def test_the_command_line_takes_it(run, tuner) -> None:
    run("old")
    done = tuner("full", "tiny.py", "--space", "old.yaml", "--study", "new", "--trials", "2", "--warm-start", "old")
    assert done.code == 0
    assert "8 of 8 trials of old taken over" in done.out
    refused = tuner("full", "tiny.py", "--space", "old.yaml", "--study", "newer", "--warm-start", "odl")
    assert refused.code == 2
    assert "Did you mean 'old'?" in refused.err


def test_trials_in_flight_start_behind_them(run, events) -> None:
    """Fused and by rule: startup trials are known, so a learning sampler is not asked for many at once."""
    run("old", {"trials": 12})
    run("new", {"sampler": "tpe", "trials": 8, "parallel": None}, warm_start="old")
    first = [type(event) for event in events if isinstance(event, (TrialStarted, EpochDone))]
    assert first.index(EpochDone) == 4
    assert trained(events) == set(range(12, 20))
