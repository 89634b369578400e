"""`tuner confirm` on studies that are really trained. The task is `files/tested/tested.py`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import FrozenTrial, TrialState
from safetensors.torch import load_file
from torch import nn

from tuner import conductor, confirming
from tuner.analysis.confirmation import Confirmation, confirmation_beside
from tuner.confirming import ConfirmRequest, confirm
from tuner.errors import StudyChangedError, UsageError
from tuner.events import Event, Note, StudyOpened, TrialEnded, TrialStarted
from tuner.search import SearchRequest, search
from tuner.storage.studies import Studies
from tuner.tasks import load_task

optuna.logging.set_verbosity(optuna.logging.WARNING)


TESTED = Path(__file__).parent / "files" / "tested"


@pytest.fixture
def events(own_folder: Path) -> list[Event]:
    for path in TESTED.glob("tested.*"):
        shutil.copy(path, own_folder)
    return []


@pytest.fixture
def searched(events: list[Event]) -> Callable[..., Any]:
    def go(mode: str = "quick", target: str = "tested.py", folder: str = "studies", **overrides: Any) -> Any:
        request = SearchRequest(target, mode, Path(folder), device="cpu", overrides=overrides)
        return search(request, lambda event: None)

    return go


@pytest.fixture
def confirmed(events: list[Event]) -> Callable[..., Confirmation]:
    def go(study: str | None = "tested-quick", **more: Any) -> Confirmation:
        events.clear()
        return confirm(ConfirmRequest(study, **{"top": 2, "seeds": 3, "device": "cpu", **more}), events.append)

    return go


def trials(name: str = "tested-quick-confirm", folder: str = "studies") -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/{name}.db").trials


def table(folder: str = "studies") -> list[tuple[Any, ...]]:
    """All of the trial table that a resumed confirmation must repeat."""
    return [
        (t.number, t.state, t.params, t.values, t.intermediate_values, t.user_attrs["test"], t.user_attrs["confirms"])
        for t in trials(folder=folder)
    ]


def started(events: list[Event]) -> list[int]:
    return [event.trial for event in events if isinstance(event, TrialStarted)]


def test_the_best_settings_are_trained_over_seeds_that_the_search_did_not_use(searched, confirmed) -> None:
    searched()
    found = confirmed()
    best = sorted(trials("tested-quick"), key=lambda trial: trial.value)[:2]
    assert [entry.trial for entry in found.candidates] == [trial.number for trial in best]
    assert [entry.searched for entry in found.candidates] == [trial.value for trial in best]
    fresh = trials()
    assert len(fresh) == 6
    for trial in fresh:
        recipe = trial.user_attrs["recipe"]
        original = trials("tested-quick")[trial.user_attrs["confirms"]].user_attrs["recipe"]
        assert recipe["seed"] == recipe["data_seed"] == recipe["dropout_seed"] == trial.params["seed"]
        assert trial.params["seed"] in (1000, 1001, 1002)
        seeds = ("seed", "data_seed", "dropout_seed")
        assert {**recipe, **dict.fromkeys(seeds)} == {**original, **dict.fromkeys(seeds)}
        assert trial.user_attrs["enqueued"] == f"tested-quick, trial {trial.user_attrs['confirms']}"
        assert trial.state == TrialState.COMPLETE


def test_those_of_one_shape_train_as_one_group(searched, confirmed) -> None:
    searched()
    confirmed()
    assert {trial.user_attrs["trained"] for trial in trials()} == {"fused"}


def test_the_numbers_are_those_of_training_by_hand_with_these_seeds(searched, confirmed, tuner) -> None:
    """`tuner train` trains each alone; what its weights have on the test split is computed here by itself."""
    searched()
    found = confirmed(top=1)
    (entry,) = found.candidates
    test = load_task("tested.py").test_data({"samples": 64})
    values, losses, close = [], [], []
    for seed in (1000, 1001, 1002):
        settings = [f"--set={name}={seed}" for name in ("seed", "data_seed", "dropout_seed")]
        out = ("--out", f"by-hand-{seed}", "--json", "--device", "cpu")
        done = tuner("train", "--from", "tested-quick", "--trial", str(entry.trial), *settings, *out)
        assert done.code == 0, done.err
        values.append(json.loads(done.out.splitlines()[-1])["value"])
        weights = load_file(f"by-hand-{seed}/weights.safetensors")
        hidden = len(weights["0.bias"])
        net = nn.Sequential(nn.Linear(3, hidden), nn.Identity(), nn.Tanh(), nn.Identity(), nn.Linear(hidden, 1))
        net.load_state_dict(weights)
        with torch.no_grad():
            errors = net(test.inputs).squeeze(1) - test.targets
        losses.append(float(errors.square().mean()))
        close.append(float((errors.abs() < 0.5).float().mean()))
    assert [run.value for run in entry.runs] == pytest.approx(values, rel=1e-4)
    assert [run.test["test_mse"] for run in entry.runs] == pytest.approx(losses, rel=1e-4)
    assert [run.test["test_loss"] for run in entry.runs] == pytest.approx(losses, rel=1e-4)
    assert [run.test["test_close"] for run in entry.runs] == pytest.approx(close)
    assert entry.validation.mean == pytest.approx(np.mean(values), rel=1e-4)
    assert entry.test.mean == pytest.approx(np.mean(losses), rel=1e-4)
    assert entry.optimism == pytest.approx(np.mean(values) - entry.searched, rel=1e-3)
    assert entry.test_optimism == pytest.approx(np.mean(losses) - entry.searched, rel=1e-3)


def test_no_search_looks_at_the_test_split(searched, confirmed, own_folder, monkeypatch) -> None:
    log = own_folder / "looks"
    monkeypatch.setenv("TESTED_LOG", str(log))
    searched()
    assert not log.exists()
    confirmed()
    assert log.read_text().splitlines() == ["looked"]


def test_the_test_split_is_looked_at_when_a_trial_is_over(searched, confirmed, events, monkeypatch) -> None:
    """Nothing that is seen there can reach what is trained."""
    searched()
    scores, epochs = confirming.scores_on_test, []

    def looked(trainer: Any, run: Any, check: Any) -> Any:
        epochs.append((run.epochs_done, run.done))
        return scores(trainer, run, check)

    monkeypatch.setattr(confirming, "scores_on_test", looked)
    confirmed()
    assert epochs == [(4, True)] * 6


def test_a_test_split_that_the_data_holds_is_scored_too(searched, confirmed, own_folder) -> None:
    whole = Path("tiny.py").read_text().replace("y[half:]))", "y[half:]), test=Samples(x[half:], y[half:]))")
    Path("tiny.py").write_text(whole)
    searched(target="tiny.py")
    found = confirmed("tiny-quick")
    assert found.test_metric == "test_mse"
    for entry in found.candidates:  # the same samples as those of validation
        assert [run.test["test_mse"] for run in entry.runs] == pytest.approx([run.value for run in entry.runs])


def test_without_a_test_split_the_rest_is_the_same(searched, confirmed) -> None:
    searched(target="tiny.py")
    found = confirmed("tiny-quick")
    assert found.test_metric is None
    assert found.winner is not None
    assert all("test" not in trial.user_attrs for trial in trials("tiny-quick-confirm"))
    assert found.candidates[0].test.mean is None


@pytest.mark.slow
@pytest.mark.parametrize("every", [2, 5, 20])
def test_killed_in_the_middle_it_goes_on_to_the_same_table(searched, confirmed, monkeypatch, every) -> None:
    """Killed at every so-manieth safe point; scoring has such points as well."""
    searched(folder="whole")
    expected = confirmed(studies=Path("whole"))
    searched()
    between = conductor.Conductor._between_steps
    for deaths in range(100):
        left = iter(range(every + deaths))  # further each time, so that it ends

        def dying(self: conductor.Conductor, left: Any = left) -> None:
            between(self)
            if next(left, None) is None:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(conductor.Conductor, "_between_steps", dying)
            try:
                found = confirmed()
                break
            except KeyboardInterrupt:
                continue
    assert deaths > 0 or every == 20
    assert table() == table("whole")
    assert found == expected


def test_killed_between_queueing_and_training_it_trains_all(searched, confirmed, monkeypatch) -> None:
    searched()

    def dead(self: conductor.Conductor) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conductor.Conductor, "run", dead)
        with pytest.raises(KeyboardInterrupt):
            confirmed()
    assert {trial.state for trial in trials()} == {TrialState.WAITING}
    assert confirmed().unfinished == 0
    assert len(trials()) == 6


def test_asking_for_more_trains_only_what_is_missing(searched, confirmed, events) -> None:
    searched()
    confirmed(top=1, seeds=2)
    before = table()
    assert started(events) == [0, 1]
    confirmed(top=1, seeds=4)
    assert started(events) == [2, 3]
    assert [trial.params["seed"] for trial in trials()] == [1000, 1001, 1002, 1003]
    found = confirmed(top=3, seeds=4)
    assert started(events) == list(range(4, 12))
    assert table()[:2] == before
    assert [len(entry.runs) for entry in found.candidates] == [4, 4, 4]
    again = confirmed(top=1, seeds=1)
    assert started(events) == []
    assert again == found


def test_a_confirmation_in_parts_is_that_of_one_go(searched, confirmed) -> None:
    searched()
    searched(folder="whole")
    confirmed(seeds=2)
    parts = confirmed(seeds=4)
    whole = confirmed(seeds=4, studies=Path("whole"))
    assert [entry.validation for entry in parts.candidates] == [entry.validation for entry in whole.candidates]
    assert [entry.test for entry in parts.candidates] == [entry.test for entry in whole.candidates]


def test_where_seeds_were_searched_settings_are_told_apart_by_all_else(searched, confirmed) -> None:
    searched("seeds")
    found = confirmed("tested-seeds", top=5)
    of_search = trials("tested-seeds")
    assert len(found.candidates) == 2  # of six trials: two settings
    for entry in found.candidates:
        hidden = of_search[entry.trial].params["model.hidden"]
        alike = [trial.value for trial in of_search if trial.params["model.hidden"] == hidden]
        assert entry.searched == min(alike)
    assert {run.seed for entry in found.candidates for run in entry.runs} == {1001, 1002, 1003}  # 1000 was searched


def test_the_newest_study_is_confirmed_and_then_gone_on_with(searched, confirmed) -> None:
    searched()
    assert confirmed(None, seeds=1).study == "tested-quick"
    assert confirmed(None, seeds=2).study == "tested-quick"
    assert len(trials()) == 4


def test_a_split_that_cannot_be_scored_fails_the_trial_and_says_why(searched, confirmed, events, own_folder) -> None:
    code = Path("tested.py").read_text().replace("return Samples(x, ", "return Samples(x[:, :2], ")
    Path("tested.py").write_text(code)
    searched()
    found = confirmed(top=2, seeds=1)
    assert {trial.state for trial in trials()} == {TrialState.FAIL}
    assert "mat1 and mat2" in trials()[0].user_attrs["reason"]
    assert found.winner is None
    assert [run.state for run in found.candidates[0].runs] == ["failed"]


def test_settings_that_the_study_no_longer_makes_are_left_out_and_named(searched, confirmed, events) -> None:
    searched()
    best = min(trials("tested-quick"), key=lambda trial: trial.value)
    recipe = {**best.user_attrs["recipe"], "gradient_clip": 0.5}  # as if trained before a change was accepted
    _rewrite(best._trial_id, "recipe", recipe)
    found = confirmed()
    assert best.number not in [entry.trial for entry in found.candidates]
    notes = [event.message for event in events if isinstance(event, Note)]
    assert any(note.startswith(f"trial {best.number} is left out") for note in notes)


def _rewrite(trial_id: int, key: str, value: Any) -> None:
    """Change a user attribute of a trial that has ended."""
    import sqlite3

    with sqlite3.connect("studies/tested-quick.db") as connection:
        connection.execute(
            "UPDATE trial_user_attributes SET value_json = ? WHERE trial_id = ? AND key = ?",
            (json.dumps(value), trial_id, key),
        )


def test_what_cannot_be_confirmed_is_said_and_writes_nothing(searched, confirmed, own_folder, tuner) -> None:
    assert tuner("quick", "svc.py:objective", "--trials", "1", "-q").code == 0
    with pytest.raises(UsageError, match=r"an objective function .* cannot be confirmed"):
        confirmed("svc-quick")
    searched("hopeless")
    with pytest.raises(UsageError, match="no trial of the study is complete"):
        confirmed("tested-hopeless")
    searched()
    with pytest.raises(UsageError, match=r"no study 'tested-quik'.*'tested-quick'"):
        confirmed("tested-quik")
    Path("tested.py").rename("gone.py")
    with pytest.raises(UsageError, match=r"tested-quick: the task's file is gone .*tested\.py"):
        confirmed()
    Path("gone.py").rename("tested.py")
    Path("studies/tested-quick-confirm.db").unlink(missing_ok=True)
    optuna.create_study(storage="sqlite:///studies/other.db", study_name="other")
    with pytest.raises(UsageError, match="made by another program"):
        confirmed("other")
    names = sorted(path.name for path in Path("studies").glob("*.db"))
    assert names == ["other.db", "svc-quick.db", "tested-hopeless.db", "tested-quick.db"]


def test_a_confirmation_is_not_confirmed_itself(searched, confirmed) -> None:
    searched()
    confirmed(seeds=1)
    with pytest.raises(UsageError, match="tuner confirm tested-quick"):
        confirmed("tested-quick-confirm")


def test_another_study_of_that_name_is_left_alone(searched, confirmed) -> None:
    searched()
    search(SearchRequest("tested.py", "quick", study="tested-quick-confirm", device="cpu"), lambda event: None)
    before = len(trials())
    with pytest.raises(UsageError, match="does not confirm 'tested-quick'"):
        confirmed()
    assert len(trials()) == before


def test_a_study_searched_anew_is_not_mixed_with_what_confirmed_the_old_one(searched, confirmed) -> None:
    searched()
    confirmed(seeds=1)
    Path("studies/tested-quick.db").unlink()
    searched(study_seed=5)
    with pytest.raises(UsageError, match="confirms a study 'tested-quick' that is no longer this one"):
        confirmed(seeds=1)


def test_a_task_that_changed_since_the_search_is_refused_unless_accepted(searched, confirmed, own_folder) -> None:
    searched()
    with open("tested.py", "a") as file:
        file.write("\n# another task by now\n")
    with pytest.raises(StudyChangedError, match=r"changed since the search.*--accept-changes"):
        confirmed()
    assert not Path("studies/tested-quick-confirm.db").exists()
    assert confirmed(accept_changes=True).winner is not None


def test_the_confirming_study_is_an_ordinary_one(searched, confirmed, events, tuner) -> None:
    searched()
    confirmed()
    (opened,) = [event for event in events if isinstance(event, StudyOpened)]
    assert (opened.study, opened.trials, opened.mode) == ("tested-quick-confirm", 6, "confirm")
    assert len([event for event in events if isinstance(event, TrialEnded)]) == 6
    rows = {row["study"]: row for row in json.loads(tuner("list", "--json").out)}
    assert rows["tested-quick-confirm"]["state"] == "finished"
    assert (rows["tested-quick-confirm"]["counted"], rows["tested-quick-confirm"]["trials"]) == (6, 6)
    done = tuner("analyze", "tested-quick-confirm", "--group-by", "learning_rate")
    assert done.code == 0, done.err


def test_the_command_says_it_in_words_a_table_and_json(searched, own_folder, tuner) -> None:
    searched()
    done = tuner("confirm", "tested-quick", "--top", "2", "--seeds", "3", "--device", "cpu", "--quiet")
    assert done.code == 0, done.err
    text = " ".join(done.out.split())
    best = min(trials("tested-quick"), key=lambda trial: trial.value)
    assert f"Trial {best.number} had val_mse {best.value:#.4g} in the search; over 3 fresh seeds it has" in text
    assert "on the test split" in text
    done = tuner("confirm", "tested-quick", "--top", "2", "--seeds", "3", "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert (lines[0]["event"], lines[-1]["event"]) == ("StudyOpened", "Confirmed")
    assert lines[-1]["candidates"][0]["trial"] == best.number
    assert len(lines[-1]["candidates"][0]["runs"]) == 3


def test_the_command_that_was_interrupted_is_the_one_that_goes_on(searched, own_folder, tuner, monkeypatch) -> None:
    import os
    import signal

    searched()
    scores = confirming.scores_on_test

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return scores(*arguments)

    monkeypatch.setattr(confirming, "scores_on_test", interrupted)
    done = tuner("confirm", "tested-quick", "--top", "1", "--seeds", "2", "--device", "cpu")
    assert done.code == 130
    assert done.err.endswith("Go on with:\n  tuner confirm tested-quick --top 1 --seeds 2 --device cpu\n")
    monkeypatch.undo()
    monkeypatch.chdir(own_folder)
    assert confirm(ConfirmRequest("tested-quick", 1, 2, device="cpu"), lambda event: None).unfinished == 0


def test_a_study_finds_what_confirms_it(searched, confirmed) -> None:
    searched()
    studies = Studies(Path("studies"))
    assert confirmation_beside(studies, "tested-quick") is None
    found = confirmed()
    assert confirmation_beside(studies, "tested-quick") == found
    assert confirmation_beside(studies, "tested-quick-confirm") is None
