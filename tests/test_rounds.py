"""What rounds promise beyond one process's life: checkpoints within them, retries, others at the same study."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState

from tuner import conductor
from tuner.errors import SearchStoppedError, StorageError
from tuner.events import Event, Note
from tuner.rounds.asking import Asker
from tuner.search import SearchRequest, search
from tuner.training.plain import PlainRun

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def events(own_folder: Path) -> list[Event]:
    return []


@pytest.fixture
def run(events: list[Event]) -> Callable[..., Any]:
    def go(folder: str = "studies", mode: str = "pruned", **overrides: Any) -> Any:
        overrides = {"parallel": 3, "trials": 7, "fuse": "off", **overrides}
        return search(SearchRequest("tiny.py", mode, Path(folder), device="cpu", overrides=overrides), events.append)

    return go


def table(folder: str, name: str = "tiny-pruned") -> list[tuple[Any, ...]]:
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/{name}.db")
    return [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in study.trials]


def notes(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Note)]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int]]:
    """How often each step of each recipe was trained."""
    counted: Counter[tuple[str, int]] = Counter()
    step = PlainRun.step

    def counting(run: PlainRun) -> None:
        counted[str(run.recipe.learning_rate), run.steps_done] += 1
        step(run)

    monkeypatch.setattr(PlainRun, "step", counting)
    return counted


def die_in(monkeypatch: pytest.MonkeyPatch, every: int, call: Callable[[], Any]) -> None:
    """Call, with an exception that nothing catches at the `every`-th safe point."""
    between, seen = conductor.Conductor._between_steps, Counter[str]()

    def dying(self: conductor.Conductor) -> None:
        seen["points"] += 1
        between(self)
        if seen["points"] == every:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conductor.Conductor, "_between_steps", dying)
        call()


def run_to_the_end(run: Any, monkeypatch: pytest.MonkeyPatch, every: int, at_most: int = 100) -> int:
    """Run, die, and run again until the study is complete; gives the number of deaths, `at_most` so many."""
    for deaths in range(at_most):
        try:
            die_in(monkeypatch, every, run)
        except KeyboardInterrupt:
            continue
        return deaths
    run()
    return at_most


def test_a_long_round_is_checkpointed_within(run, steps, monkeypatch) -> None:
    """With a checkpoint after every step, dying at every 17th loses no step at all."""
    run("whole")
    expected, once = table("whole"), dict(steps)
    steps.clear()
    monkeypatch.setattr(conductor, "CHECKPOINT_SECONDS", 0.0)
    assert run_to_the_end(run, monkeypatch, every=17) > 5
    assert table("studies") == expected
    assert dict(steps) == once
    assert not Path("studies/tiny-pruned/checkpoints").exists()


def test_a_round_trains_no_more_than_itself_twice(run, steps, monkeypatch) -> None:
    run("whole")
    expected, once = table("whole"), sum(steps.values())
    steps.clear()
    deaths = run_to_the_end(run, monkeypatch, every=40)
    assert deaths >= 2
    assert table("studies") == expected
    assert sum(steps.values()) <= once + deaths * 3 * 8  # three trials in flight, 8 steps or fewer an epoch


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException, int], Counter[int]]:
    """Make the third epoch of every second recipe fail so many times."""

    def arrange(error: BaseException, times: int) -> Counter[int]:
        failed: Counter[int] = Counter()
        epoch, seen = PlainRun.epoch, {}

        def flaky(run: PlainRun) -> Any:
            number = seen.setdefault(str(run.recipe.learning_rate), len(seen))
            if number % 2 and run.epochs_done == 2 and failed[number] < times:
                failed[number] += 1
                run.step()
                raise error
            return epoch(run)

        monkeypatch.setattr(PlainRun, "epoch", flaky)
        return failed

    return arrange


@pytest.mark.parametrize(
    ("error", "times", "retries"),
    [(RuntimeError("flaky"), 2, 2), (torch.OutOfMemoryError("CUDA out of memory"), 1, 0)],
    ids=["retries: 2", "out of memory"],
)
def test_a_failure_that_passes_leaves_no_trace_in_the_table(run, failing, events, error, times, retries) -> None:
    run("whole")
    failed = failing(error, times)
    text = Path("tiny.yaml").read_text()
    Path("tiny.yaml").write_text(text.replace("  pruned:\n", f"  pruned:\n    retries: {retries}\n"))
    run()
    assert failed
    assert set(failed.values()) == {times}
    assert table("studies") == table("whole")
    study = optuna.load_study(study_name="tiny-pruned", storage="sqlite:///studies/tiny-pruned.db")
    assert [trial.user_attrs.get("retries", 0) for trial in study.trials if trial.number % 2] == [times] * 3
    assert any("is tried again" in message for message in notes(events))


@pytest.mark.parametrize(
    ("error", "tries", "reason"),
    [
        (RuntimeError("always"), 1, "RuntimeError: always"),
        (torch.OutOfMemoryError("CUDA out of memory"), 2, "out of memory"),
    ],
)
def test_a_failure_that_stays_ends_the_trial(run, failing, error, tries, reason) -> None:
    failed = failing(error, 1000)
    run(pruner="none")
    study = optuna.load_study(study_name="tiny-pruned", storage="sqlite:///studies/tiny-pruned.db")
    ended = [trial for trial in study.trials if trial.state == TrialState.FAIL]
    assert [trial.number for trial in ended] == [1, 3, 5]
    assert {trial.user_attrs["reason"] for trial in ended} == {reason}
    assert all(list(trial.intermediate_values) == [1, 2] for trial in ended)
    assert set(failed.values()) == {tries}


def test_a_trial_that_another_process_queues_while_asking_is_tried_next(run, monkeypatch) -> None:
    """The asks of a round are made again when the study is no longer what they were made for."""
    fill, queued = Asker.fill, []

    def disturbed(self: Asker, in_flight: int) -> Any:
        asked = fill(self, in_flight)
        if asked.proposals and asked.proposals[0].number >= 3 and not queued:
            study = optuna.load_study(study_name="tiny-pruned", storage="sqlite:///studies/tiny-pruned.db")
            study.enqueue_trial({"learning_rate": 0.0125})
            queued.append(asked.proposals[0].number)
        return asked

    monkeypatch.setattr(Asker, "fill", disturbed)
    run()
    found = table("studies")
    assert [row[0] for row in found] == list(range(7))
    assert found[queued[0]][2] == {"learning_rate": 0.0125}
    assert all(row[1].is_finished() for row in found)


def test_duplicates_end_with_their_originals_however_often_the_asks_are_made_again(run, monkeypatch) -> None:
    fill = Asker.fill

    def disturbed(self: Asker, in_flight: int) -> Any:
        asked = fill(self, in_flight)
        study = optuna.load_study(study_name="tiny-small", storage="sqlite:///studies/tiny-small.db")
        if len(study.get_trials(deepcopy=False)) < 12:
            study.enqueue_trial({"learning_rate": 0.01, "model.hidden": 2})
        return asked

    monkeypatch.setattr(Asker, "fill", disturbed)
    run(mode="small", sampler="random")
    study = optuna.load_study(study_name="tiny-small", storage="sqlite:///studies/tiny-small.db")
    assert all(trial.state.is_finished() for trial in study.trials)
    copies = [trial for trial in study.trials if "duplicate_of" in trial.user_attrs]
    assert copies
    assert all(trial.value == study.trials[trial.user_attrs["duplicate_of"]].value for trial in copies)


def test_a_trial_that_another_program_ends_stays_ended(run, monkeypatch) -> None:
    epoch = PlainRun.epoch

    def meddled(self: PlainRun) -> Any:
        study = optuna.load_study(study_name="tiny-pruned", storage="sqlite:///studies/tiny-pruned.db")
        if self.epochs_done == 1 and study.trials[1].state == TrialState.RUNNING:
            study.tell(1, state=TrialState.FAIL)
        return epoch(self)

    monkeypatch.setattr(PlainRun, "epoch", meddled)
    with pytest.raises(StorageError, match="another program ended trial 1 while it was trained"):
        run()
    run()
    found = table("studies")
    assert [row[1].name for row in found][1] == "FAIL"
    assert len(found) == 7
    assert all(row[1].is_finished() for row in found)


def test_hyperband_over_an_objective_function_prunes_alike_in_parts(events: list[Event]) -> None:
    """It cannot know the steps before a trial is complete, and must not find out anew in each process."""
    Path("steps.py").write_text(
        "import optuna\n"
        "def objective(trial):\n"
        "    x = trial.suggest_float('x', 0, 1)\n"
        "    for step in range(3 * (1 + trial.number)):\n"
        "        trial.report(x + 1 / (1 + step), step)\n"
        "        if trial.should_prune(): raise optuna.TrialPruned\n"
        "    return x\n"
    )
    for folder, parts in (("parts", (2, 5, 9, 16)), ("whole", (16,))):
        for trials in parts:
            overrides = {"pruner": "hyperband", "trials": trials}
            search(SearchRequest("steps.py:objective", "quick", Path(folder), overrides=overrides), events.append)
    assert TrialState.PRUNED in {row[1] for row in table("whole", "steps-quick")}
    assert table("parts", "steps-quick") == table("whole", "steps-quick")


def test_an_error_of_the_conductors_own_is_not_the_trials(run, monkeypatch) -> None:
    """A disk that fills up at a checkpoint within a round ends the search, and no trial with it."""
    run("whole")
    monkeypatch.setattr(conductor, "CHECKPOINT_SECONDS", 0.0)
    save = conductor.Checkpoints.save

    def full(self: Any, flights: Any, after: str | None) -> Any:
        if after == "00000005.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(self, flights, after)

    with monkeypatch.context() as patch:
        patch.setattr(conductor.Checkpoints, "save", full)
        with pytest.raises(StorageError, match="disk is full"):
            run()
    run()
    assert table("studies") == table("whole")


def test_failures_alike_do_not_stop_a_study_in_which_a_trial_trains(run, failing) -> None:
    """Recipe 0 is in flight and well when 1, 2 and 3 have failed alike in their first epoch."""
    Path("few.yaml").write_text(
        "task: tiny.py\nmetric: val_mse\ndirection: minimize\nrecipe: {epochs: 6, batch_size: 16}\n"
        "modes:\n  quick:\n    sampler: grid\n    parallel: 4\n    search:\n"
        "      model.fault: {choices: [none, error]}\n      learning_rate: {choices: [0.01, 0.02, 0.03, 0.04]}\n"
    )
    ended = search(SearchRequest("few.yaml", "quick", study="few", device="cpu"), lambda event: None)
    assert ended.counted == 8
    assert [row[1].name for row in table("studies", "few")].count("COMPLETE") == 4


def test_a_stop_is_told_once_and_then_tried_anew(run) -> None:
    for tried in (3, 4, 5):
        with pytest.raises(SearchStoppedError, match=f"first {tried} trials all failed alike"):
            run(mode="hopeless", parallel=1)
        assert [row[1].name for row in table("studies", "tiny-hopeless")] == ["FAIL"] * tried


def test_a_stop_that_was_cut_off_is_told_by_the_next_run(run, monkeypatch) -> None:
    """Killed between the last trial's end and the message: the same command changes nothing more."""
    with monkeypatch.context() as patch:
        patch.setattr(conductor.Conductor, "_finish", lambda self, asked: die())
        with pytest.raises(KeyboardInterrupt):
            run(mode="hopeless", parallel=1)
    with pytest.raises(SearchStoppedError, match="first 3 trials"):
        run(mode="hopeless", parallel=1)
    assert len(table("studies", "tiny-hopeless")) == 3


def test_what_was_infeasible_is_tried_when_the_constraint_is_loosened(run) -> None:
    text = (
        "task: tiny.py\nmetric: val_mse\ndirection: minimize\nrecipe: {epochs: 2, batch_size: 16}\n"
        "modes:\n  quick:\n    sampler: random\n    trials: 50\n    search:\n      model.hidden: {low: 1, high: 6}\n"
        "    constraints: [model.hidden <= 3]\n"
    )
    for limit, accept in ((3, False), (5, True)):
        Path("few.yaml").write_text(text.replace("<= 3", f"<= {limit}"))
        search(SearchRequest("few.yaml", "quick", study="few", device="cpu", accept_changes=accept), lambda event: None)
    complete = [row for row in table("studies", "few") if row[1] == TrialState.COMPLETE]
    assert {row[2]["model.hidden"] for row in complete} == {1, 2, 3, 4, 5}


def die() -> Any:
    """As if killed."""
    raise KeyboardInterrupt


def test_a_trial_that_cannot_be_checkpointed_begins_again(run, events, monkeypatch) -> None:
    text = Path("tiny.py").read_text()
    odd = "class Odd(nn.Linear):\n    def get_extra_state(self):\n        return object()\n"
    odd += "    def set_extra_state(self, state):\n        pass\n\n\nclass Tiny("
    Path("tiny.py").write_text(text.replace("class Tiny(", odd).replace("nn.Linear(options", "Odd(options"))
    run("whole")
    assert run_to_the_end(run, monkeypatch, every=40, at_most=3) == 3
    assert table("studies") == table("whole")
    assert any("_extra_state" in message and "begins again" in message for message in notes(events))


def test_a_value_that_comes_out_different_is_said(run, events, monkeypatch) -> None:
    """As on a GPU: the checkpoints are gone, and the epochs that are trained again are not what they were."""
    with pytest.raises(KeyboardInterrupt):
        die_in(monkeypatch, every=40, call=run)
    for path in Path("studies/tiny-pruned/checkpoints").iterdir():
        path.unlink()
    validate = PlainRun._validate

    def shifted(self: PlainRun) -> dict[str, float]:
        return {name: value * (1 + 1e-7) for name, value in validate(self).items()}

    monkeypatch.setattr(PlainRun, "_validate", shifted)
    run()
    assert any("trained again, it gave another value" in message for message in notes(events))
