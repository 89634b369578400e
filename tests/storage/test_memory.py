"""Memory equals database after any mix of calls, in and out of transactions, by this process and by another."""

from __future__ import annotations

import copy
import math
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.storage.batched import BatchedStorage
from tuner.storage.bulk import ConflictError
from tuner.storage.connect import url

NUMBERS = st.floats(allow_subnormal=False, width=32).map(lambda value: value + 0.0)  # SQLite has no -0.0
FINITE = st.floats(-1e9, 1e9, width=32).map(lambda value: value + 0.0)
PARAMETERS = {
    "x": (FloatDistribution(0, 1), 0.5),
    "n": (IntDistribution(1, 9), 3),
    "c": (CategoricalDistribution(["a", None, 2]), None),
}
KEYS = st.sampled_from(["reason", "completed_rung_0", "tpe:relative_params:0"])
VALUES = st.sampled_from([1, "text", None, [1, [2, 3]], {"a": {"1": math.inf}}])
ENDS = st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
WHICH = st.integers(0, 20)
TEMPLATES = st.sampled_from(
    [
        create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"x": 0.5}}),
        create_trial(
            value=1.5,
            params={name: value for name, (_, value) in PARAMETERS.items()},
            distributions={name: distribution for name, (distribution, _) in PARAMETERS.items()},
            user_attrs={"by": "hand"},
            intermediate_values={1: 0.5, 2: math.inf},
        ),
    ]
)


def words(trial: FrozenTrial, times: bool) -> str:
    """All of a trial, in words, for NaN is not equal to NaN."""
    known = (trial.params, trial.distributions, trial.intermediate_values, trial.user_attrs, trial.system_attrs)
    content = [sorted(mapping.items(), key=str) for mapping in known]
    when = (trial.datetime_start, trial.datetime_complete, trial._trial_id) if times else ()
    return repr((trial.number, trial.state, trial.values, content, when))


def table(storage: BaseStorage, study_id: int, times: bool = False) -> list[str]:
    found = [words(trial, times) for trial in storage.get_all_trials(study_id, deepcopy=False)]
    return [*found, repr(sorted(storage.get_study_user_attrs(study_id).items()))]


def do(storage: BaseStorage, study_id: int, call: str, number: int | None, *arguments: Any) -> Any:
    """One call, on the trial of a number, or on the study."""
    if number is None:
        return getattr(storage, call)(study_id, *arguments)
    if call == "forget" and isinstance(storage, InMemoryStorage):
        return forget(storage.get_all_trials(study_id, deepcopy=False)[number], *arguments)
    return getattr(storage, call)(storage.get_trial_id_from_study_id_trial_number(study_id, number), *arguments)


def forget(trial: FrozenTrial, parameters: bool) -> None:
    """What forgetting should do."""
    trial.intermediate_values.clear()
    for key in ("completed_rung_0", "tpe:relative_params:0"):
        trial.system_attrs.pop(key, None)
    if parameters:
        trial.params = {}
        trial.distributions = {}


class Memory(RuleBasedStateMachine):
    """Ours, another process on the same file, and Optuna's in-memory storage to which the same is done.

    `oracle` holds what is committed, `draft` that and the calls of the open transaction.
    """

    path: Path
    bulk: bool

    def __init__(self) -> None:
        super().__init__()
        options = {"skip_compatibility_check": True, "skip_table_creation": True}
        self.mine = BatchedStorage(RDBStorage(url(self.path), **options))
        self.mine._bulk = self.bulk
        self.another = RDBStorage(url(self.path), **options)
        self.study = self.mine.create_new_study([StudyDirection.MINIMIZE])
        self.oracle, self.draft = InMemoryStorage(), InMemoryStorage()
        assert self.oracle.create_new_study([StudyDirection.MINIMIZE]) == 0
        self.block: ExitStack | None = None
        self.calls: list[tuple[Any, ...]] = []
        self.raced: list[tuple[Any, ...]] = []
        self.others: set[int] = set()
        self.handed_out: list[tuple[FrozenTrial, str]] = []

    def teardown(self) -> None:
        if self.block is not None:
            self.abort()
        self.mine.engine.dispose()
        self.another.engine.dispose()

    def call(self, name: str, number: int | None, *arguments: Any) -> None:
        """A call of ours."""
        do(self.mine, self.study, name, number, *arguments)
        do(self.draft if self.block else self.oracle, 0, name, number, *arguments)
        self.calls.append((name, number, *arguments))

    def call_another(self, name: str, number: int | None, *arguments: Any) -> None:
        """A call of another process."""
        do(self.another, self.study, name, number, *arguments)
        do(self.oracle, 0, name, number, *arguments)
        self.raced.append((name, number, *arguments))

    def pick(self, which: int, state: TrialState, of_another: bool = False) -> int | None:
        """The number of a trial in a state; a RUNNING one is only its owner's."""
        storage = self.draft if self.block and not of_another else self.oracle
        found = [trial.number for trial in storage.get_all_trials(0, states=(state,))]
        if state == TrialState.RUNNING:
            found = [number for number in found if (number in self.others) == of_another]
        return found[which % len(found)] if found else None

    # Transactions.

    @precondition(lambda self: self.block is None)
    @rule()
    def begin(self) -> None:
        self.block = ExitStack()
        self.block.enter_context(self.mine.transaction())
        self.mine.get_all_trials(self.study, deepcopy=False)
        self.draft = copy.deepcopy(self.oracle)
        self.calls, self.raced = [], []

    @precondition(lambda self: self.block is not None)
    @rule()
    def commit(self) -> None:
        block, self.block = self.block, None
        assert block is not None
        created, claimed = created_and_claimed(self.calls)
        raced, taken = created_and_claimed(self.raced)
        if (created and raced) or claimed & taken:
            with pytest.raises(ConflictError):
                block.close()
            return
        block.close()
        for name, number, *arguments in self.calls:
            do(self.oracle, 0, name, number, *arguments)

    @precondition(lambda self: self.block is not None)
    @rule()
    def abort(self) -> None:
        block, self.block = self.block, None
        assert block is not None
        block.__exit__(KeyError, KeyError(), None)

    # What this process does.

    @rule(template=st.none() | TEMPLATES)
    def create(self, template: FrozenTrial | None) -> None:
        self.call("create_new_trial", None, template)

    @rule(which=WHICH)
    def claim(self, which: int) -> None:
        number = self.pick(which, TrialState.WAITING)
        if number is not None:
            self.call("set_trial_state_values", number, TrialState.RUNNING)

    @rule(which=WHICH, name=st.sampled_from(sorted(PARAMETERS)))
    def suggest(self, which: int, name: str) -> None:
        number = self.pick(which, TrialState.RUNNING)
        storage = self.draft if self.block else self.oracle
        if number is not None and name not in storage.get_all_trials(0)[number].params:
            distribution, value = PARAMETERS[name]
            self.call("set_trial_param", number, name, distribution.to_internal_repr(value), distribution)

    @rule(which=WHICH, step=st.integers(0, 3), value=NUMBERS)
    def report(self, which: int, step: int, value: float) -> None:
        number = self.pick(which, TrialState.RUNNING)
        if number is not None:
            self.call("set_trial_intermediate_value", number, step, value)

    @rule(which=WHICH, kind=st.sampled_from(["user", "system"]), key=KEYS, value=VALUES)
    def note(self, which: int, kind: str, key: str, value: Any) -> None:
        number = self.pick(which, TrialState.RUNNING)
        if number is not None:
            self.call(f"set_trial_{kind}_attr", number, key, value)

    @rule(which=WHICH, parameters=st.booleans())
    def forget(self, which: int, parameters: bool) -> None:
        number = self.pick(which, TrialState.RUNNING)
        if number is not None:
            self.call("forget", number, parameters)

    @rule(which=WHICH, state=ENDS, value=FINITE)
    def tell(self, which: int, state: TrialState, value: float) -> None:
        number = self.pick(which, TrialState.RUNNING)
        if number is not None:
            self.call("set_trial_state_values", number, state, None if state == TrialState.FAIL else [value])

    @rule(key=KEYS, value=VALUES)
    def note_on_study(self, key: str, value: Any) -> None:
        self.call("set_study_user_attr", None, key, value)

    # What another process does.

    @rule(template=st.none() | TEMPLATES)
    def another_creates(self, template: FrozenTrial | None) -> None:
        if template is None:
            self.others.add(len(self.oracle.get_all_trials(0)))
        self.call_another("create_new_trial", None, template)

    @rule(which=WHICH)
    def another_claims(self, which: int) -> None:
        number = self.pick(which, TrialState.WAITING, of_another=True)
        if number is not None:
            self.others.add(number)
            self.call_another("set_trial_state_values", number, TrialState.RUNNING)

    @rule(which=WHICH, value=NUMBERS)
    def another_reports(self, which: int, value: float) -> None:
        number = self.pick(which, TrialState.RUNNING, of_another=True)
        if number is not None:
            self.call_another("set_trial_intermediate_value", number, 1, value)

    @rule(which=WHICH, state=ENDS, value=FINITE)
    def another_tells(self, which: int, state: TrialState, value: float) -> None:
        number = self.pick(which, TrialState.RUNNING, of_another=True)
        if number is not None:
            self.call_another("set_trial_state_values", number, state, [value] * (state != TrialState.FAIL) or None)

    # What holds after every step.

    @invariant()
    def memory_equals_database(self) -> None:
        assert table(self.another, self.study) == table(self.oracle, 0)
        if self.block is not None:
            assert table(self.mine, self.study) == table(self.draft, 0)
        else:
            assert table(self.mine, self.study, times=True) == table(self.another, self.study, times=True)

    @invariant()
    def what_was_handed_out_does_not_change(self) -> None:
        assert all(words(trial, True) == before for trial, before in self.handed_out)
        trials = self.mine.get_all_trials(self.study, deepcopy=False)
        self.handed_out = [(trial, words(trial, True)) for trial in trials]


def created_and_claimed(calls: list[tuple[Any, ...]]) -> tuple[bool, set[int]]:
    """Whether trials were created, and the numbers of those that were taken from the queue."""
    claimed = {call[1] for call in calls if call[0] == "set_trial_state_values" and call[2] == TrialState.RUNNING}
    return any(call[0] == "create_new_trial" for call in calls), claimed


@pytest.mark.parametrize("bulk", [True, False], ids=["bulk", "by_orm"])
def test_memory_equals_database_after_any_mix_of_calls(tmp_path, empty_database, bulk):
    class OnAFile(Memory):
        path = Path(shutil.copy(empty_database, tmp_path / "study.db"))

    OnAFile.bulk = bulk
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    budget = settings(
        max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=checks, report_multiple_bugs=False
    )
    run_state_machine_as_test(OnAFile, settings=budget)
