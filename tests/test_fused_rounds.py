"""What rounds promise where trials train as one model: the same study, whatever breaks it off, however it is cut."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState

from tuner import conductor
from tuner.events import Event, Note
from tuner.search import SearchRequest, search
from tuner.training.fused import training
from tuner.training.fused.part import Part
from tuner.training.fused.program import Program

optuna.logging.set_verbosity(optuna.logging.WARNING)

HEAD = "task: {task}\nmetric: val_mse\ndirection: minimize\nrecipe: {{epochs: {epochs}, batch_size: 8, loss: mse}}\n"

GRID = """
modes:
  quick:
    sampler: grid
    search:
      epochs: {choices: [5, 2, 4]}
      learning_rate: {choices: [0.01, 0.1]}
      scheduler: {choices: [CosineAnnealingLR, StepLR]}
      scheduler_kwargs.step_size: {choices: [1], when: {scheduler: StepLR}}
"""


@pytest.fixture
def events(own_folder: Path) -> list[Event]:
    return []


@pytest.fixture
def run(events: list[Event]) -> Callable[..., Any]:
    def go(folder: str = "studies", mode: str = "pruned", target: str = "tiny.py", **overrides: Any) -> Any:
        overrides = {"parallel": 4, "trials": 7, "fuse": "auto", **overrides}
        return search(SearchRequest(target, mode, Path(folder), device="cpu", overrides=overrides), events.append)

    return go


def trials(folder: str, name: str = "tiny-pruned") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/{name}.db").trials


def table(folder: str, name: str = "tiny-pruned") -> list[tuple[Any, ...]]:
    return [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in trials(folder, name)]


def trained(folder: str, name: str = "tiny-pruned") -> list[str]:
    """How the trials were trained, and with what reason those that failed or were pruned ended."""
    return [trial.user_attrs.get("trained", "") for trial in trials(folder, name)]


def notes(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Note)]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, int, int]]:
    """How often each step of each recipe was trained; what is tried beforehand, in the main thread, does not count."""
    counted: Counter[tuple[str, int, int]] = Counter()
    step = Part._step

    def counting(part: Part, batch: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            counted.update((str(m.recipe.learning_rate), m.epochs_done, part.step_number) for m in part.members)
        step(part, batch)

    monkeypatch.setattr(Part, "_step", counting)
    return counted


def die_at(number: int, call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call; where the steps and validation batches of all parts have come to so many, die between two of them.

    A part stands still there until the conductor has come by; with an exception that nothing catches.
    """
    asked, standing = Counter[str](), threading.Event()
    between = conductor.Conductor._between_steps

    class Stop:
        """`Part.stop`, which is read between steps."""

        def __get__(self, part: Part, kind: type | None = None) -> bool:
            if not vars(part)["stops"]:
                asked["times"] += 1
                if asked["times"] == number:
                    standing.set()
                    while not vars(part)["stops"]:
                        time.sleep(1e-3)
            return bool(vars(part)["stops"])

        def __set__(self, part: Part, value: bool) -> None:
            vars(part)["stops"] = value

    def dying(self: conductor.Conductor) -> None:
        stood = standing.is_set()
        between(self)
        if stood:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Part, "stop", Stop(), raising=False)
        patch.setattr(conductor.Conductor, "_between_steps", dying)
        patch.setattr(training, "POLL_SECONDS", 1e-3)
        call()


def run_to_the_end(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, every: int) -> int:
    """Run, die, and run again until the study is complete; gives the number of deaths."""
    for deaths in range(100):
        try:
            die_at(every, run, monkeypatch)
        except KeyboardInterrupt:
            continue
        return deaths
    raise AssertionError("it makes no headway")


def test_killed_between_steps_with_a_checkpoint_at_each(run, steps, monkeypatch) -> None:
    """Nothing is trained twice, not even the steps of an epoch."""
    run("whole")
    expected, once = table("whole"), dict(steps)
    steps.clear()
    monkeypatch.setattr(conductor, "CHECKPOINT_SECONDS", 0.0)
    assert run_to_the_end(run, monkeypatch, every=13) > 3
    assert table("studies") == expected
    assert dict(steps) == once
    assert not Path("studies/tiny-pruned/checkpoints").exists()


@pytest.mark.parametrize("fuse", ["auto", 2])
def test_killed_within_rounds_a_round_is_trained_no_more_than_twice(run, steps, monkeypatch, fuse) -> None:
    run("whole", fuse=fuse)
    expected, once = table("whole"), sum(steps.values())
    steps.clear()
    deaths = run_to_the_end(lambda: run(fuse=fuse), monkeypatch, every=23)
    assert deaths >= 2
    assert table("studies") == expected
    assert sum(steps.values()) <= once + deaths * 4 * 4  # four trials in flight, of four steps an epoch
    assert set(trained("studies")) == {"fused"}


@pytest.mark.parametrize(("fuse", "threads"), [(2, 1), (3, 2), (64, 1)])
def test_pruning_and_how_trials_are_cut_into_models(run, fuse: int, threads: int) -> None:
    run("whole", trials=16)
    torch.set_num_threads(threads)
    run(fuse=fuse, trials=16)
    assert table("studies") == table("whole")
    assert TrialState.PRUNED in {row[1] for row in table("whole")}


def test_one_by_one_they_are_the_same_within_rounding(run) -> None:
    run("whole", pruner="none")
    run(pruner="none", fuse="off")
    for one, other in zip(table("whole"), table("studies"), strict=True):
        assert one[:3] == other[:3]
        assert one[3] == pytest.approx(other[3], rel=1e-4)
    assert trained("studies") == ["alone: fuse is off"] * 7
    assert trained("whole") == ["fused"] * 7


def test_shapes_that_mix_and_repeat(run) -> None:
    """Trials of two widths and two batch sizes; what is proposed again has its first one's value."""
    for folder, fuse in (("whole", "auto"), ("studies", 2)):
        run(folder, mode="small", fuse=fuse, sampler="random")
    assert table("whole", "tiny-small") == table("studies", "tiny-small")
    found = trials("whole", "tiny-small")
    assert len({str(trial.params) for trial in found}) == 4
    for trial in found:
        if "duplicate_of" in trial.user_attrs:
            assert trial.value == found[trial.user_attrs["duplicate_of"]].value


def test_faults_end_trials_in_states_that_tell_the_truth(run) -> None:
    run(mode="faults")
    fine, nan, error, memory = trials("studies", "tiny-faults")
    assert fine.state == TrialState.COMPLETE
    assert (nan.state, nan.user_attrs["reason"]) == (TrialState.PRUNED, "diverged at epoch 1: train_loss is nan")
    assert (error.state, error.user_attrs["reason"]) == (TrialState.FAIL, "RuntimeError: this model never works")
    assert (memory.state, memory.user_attrs["reason"]) == (TrialState.FAIL, "out of memory")
    assert fine.user_attrs["trained"] == "fused"
    assert "this model never works" in error.user_attrs["trained"]


@pytest.mark.parametrize("parallel", [2, 3, 5])
def test_trials_that_differ_in_length_share_a_training_however_late_they_join(run, parallel: int) -> None:
    """Each cell has the value that it has where it never met another of its kind."""
    Path("grid.yaml").write_text(HEAD.format(task="tiny.py", epochs=4) + GRID)
    run(target="grid.yaml", mode="quick", parallel=parallel, trials=12)
    found = trials("studies", "tiny-quick")
    assert len(found) == 12
    for trial in found:
        assert len(trial.intermediate_values) == trial.params["epochs"]
    alike: dict[tuple[Any, ...], set[float]] = {}
    for trial in found:
        if trial.params["scheduler"] == "StepLR":
            for epoch, value in trial.intermediate_values.items():
                alike.setdefault((trial.params["learning_rate"], epoch), set()).add(value)
    assert {len(values) for values in alike.values()} == {1}
    run("whole", target="grid.yaml", mode="quick", parallel=12, trials=12)
    assert [[sorted(row[2].items()), row[3]] for row in table("whole", "tiny-quick")] == [
        [sorted(row[2].items()), row[3]] for row in table("studies", "tiny-quick")
    ]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException, int], Counter[str]]:
    """Make the third epoch of every second recipe fail so many times, in its second step."""

    def arrange(error: BaseException, times: int) -> Counter[str]:
        failed: Counter[str] = Counter()
        step, seen = Part._step, {}

        def flaky(part: Part, batch: Any) -> None:
            for member in part.members:
                rate = str(member.recipe.learning_rate)
                number = seen.setdefault(rate, len(seen))
                if number % 2 and member.epochs_done == 2 and part.step_number == 1 and failed[rate] < times:
                    failed[rate] += len(part.members) == 1
                    raise error
            step(part, batch)

        monkeypatch.setattr(Part, "_step", flaky)
        return failed

    return arrange


@pytest.mark.parametrize(
    ("error", "times", "retries"),
    [(RuntimeError("flaky"), 2, 2), (torch.OutOfMemoryError("CUDA out of memory"), 1, 0)],
    ids=["retries: 2", "out of memory"],
)
def test_a_failure_that_passes_leaves_no_trace_in_the_table(run, failing, events, error, times, retries) -> None:
    run("whole", pruner="none")
    failed = failing(error, times)
    text = Path("tiny.yaml").read_text()
    Path("tiny.yaml").write_text(text.replace("  pruned:\n", f"  pruned:\n    retries: {retries}\n"))
    run(pruner="none")
    assert failed
    assert set(failed.values()) == {times}
    assert table("studies") == table("whole")
    assert any("is tried again" in message for message in notes(events))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("always"), "RuntimeError: always"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
    ],
)
def test_a_failure_that_stays_ends_its_trials_and_no_other(run, failing, error, reason) -> None:
    run("whole", pruner="none")
    failing(error, 1000)
    run(pruner="none")
    expected = table("whole")
    for trial, whole in zip(trials("studies"), expected, strict=True):
        if trial.state == TrialState.FAIL:
            assert trial.user_attrs["reason"] == reason
            assert list(trial.intermediate_values) == [1, 2]
        else:
            assert (trial.number, trial.state, trial.params, trial.values, trial.intermediate_values) == whole
    assert [trial.state for trial in trials("studies")].count(TrialState.FAIL) == 3


def test_memory_for_two_at_a_time_is_enough(run, events, monkeypatch) -> None:
    run("whole")
    train = Program.train

    def scarce(program: Program, weights: torch.Tensor, *rest: Any) -> Any:
        if len(weights) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(program, weights, *rest)

    monkeypatch.setattr(Program, "train", scarce)
    run()
    assert table("studies") == table("whole")
    assert not any("tried again" in message for message in notes(events))


def test_data_that_cannot_be_had_fails_its_trials_alone(run) -> None:
    begins = "        generator ="
    fault = f"        if options['samples'] == 48:\n            raise OSError('gone')\n{begins}"
    Path("picky.py").write_text(Path("tiny.py").read_text().replace(begins, fault, 1))
    Path("picky.yaml").write_text(
        HEAD.format(task="picky.py", epochs=2)
        + "modes:\n  quick:\n    sampler: grid\n    search:\n"
        + "      data.samples: {choices: [32, 48, 64]}\n      learning_rate: {choices: [0.01, 0.1]}\n"
    )
    run(target="picky.yaml", mode="quick", parallel=6)
    found = trials("studies", "picky-quick")
    assert [t.user_attrs.get("reason", "") for t in found if t.params["data.samples"] == 48] == ["OSError: gone"] * 2
    assert {t.state for t in found if t.params["data.samples"] != 48} == {TrialState.COMPLETE}


def test_a_study_goes_on_as_it_began_where_it_cannot_train_fused(run, monkeypatch) -> None:
    """How each trial trains stands with the trial; what a later process thinks of its model does not count."""
    monkeypatch.setattr(conductor, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        die_at(9, run, monkeypatch)
    assert {how for how in trained("studies") if how} == {"fused"}
    run()
    run("whole")
    assert table("studies") == table("whole")


def test_the_command_line_says_how_many_train_as_one(own_folder: Path, tuner) -> None:
    for fuse, how in (("off", "alone: fuse is off"), ("3", "fused"), ("auto", "fused")):
        options = ("--fuse", fuse, "--parallel", "3", "--trials", "3", "--study", f"by-{fuse}")
        assert tuner("quick", "tiny.py", *options).code == 0
        assert set(trained("studies", f"by-{fuse}")) == {how}
    for wrong in ("0", "some", "-2"):
        refused = tuner("quick", "tiny.py", "--fuse", wrong)
        assert refused.code == 2
        assert "--fuse: must be auto, off, or a number of 2 or more" in refused.err.replace("\n", " ")
