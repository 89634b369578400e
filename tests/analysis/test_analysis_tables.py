"""Counts, top trials, gap and gain against numbers recomputed by hand."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.analysis import StudyData, analyze
from tuner.analysis.overfitting import Above, Gap, gap_of
from tuner.analysis.tables import Gain, Reason, count_trials, gain_over_default, top_trials
from tuner.storage.reading import records_of

RATE = FloatDistribution(1e-5, 1.0, log=True)
OPTIMIZER = CategoricalDistribution(["Adam", "SGD"])


def data_of(study: optuna.Study) -> StudyData:
    return StudyData(records_of(study))


@pytest.fixture(autouse=True)
def _quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def trial(value: float | None, state: TrialState = TrialState.COMPLETE, **attributes: Any) -> FrozenTrial:
    rate, optimizer = attributes.pop("rate", 0.1), attributes.pop("optimizer", "Adam")
    return create_trial(
        state=state,
        value=value,
        params={"learning_rate": rate, "optimizer": optimizer},
        distributions={"learning_rate": RATE, "optimizer": OPTIMIZER},
        user_attrs=attributes,
    )


def study_of(*trials: FrozenTrial, direction: str = "maximize") -> optuna.Study:
    study = optuna.create_study(direction=direction, study_name="s")
    study.add_trials(trials)
    return study


def test_reasons_are_grouped_without_their_epoch() -> None:
    study = study_of(
        trial(None, TrialState.PRUNED, reason="pruned by the pruner at epoch 5"),
        trial(None, TrialState.PRUNED, reason="pruned by the pruner at epoch 17"),
        trial(None, TrialState.PRUNED, reason="diverged at epoch 2: train_loss is nan", diverged=True),
        trial(None, TrialState.PRUNED, reason="diverged at epoch 3: train_loss is nan", diverged=True),
        trial(None, TrialState.PRUNED, reason="diverged at epoch 3: val_loss is inf", diverged=True),
        trial(None, TrialState.FAIL, reason="out of memory"),
        trial(None, TrialState.FAIL, reason="ValueError: bad shape\nof something"),
        trial(None, TrialState.FAIL),
        trial(None, TrialState.PRUNED, infeasible="model.d_model <= 256"),
        trial(0.9, reason="early stopping at epoch 14"),
        trial(0.9),
        trial(0.9, duplicate_of=9, reason="early stopping at epoch 14"),
    )
    counts = count_trials(data_of(study))
    assert counts.reasons == (
        Reason("pruned", "pruned by the pruner", 2),
        Reason("diverged", "diverged: train_loss is nan", 2),
        Reason("complete", "early stopping", 1),
        Reason("diverged", "diverged: val_loss is inf", 1),
        Reason("failed", "ValueError: bad shape", 1),
        Reason("failed", "failed without a reason", 1),
        Reason("failed", "out of memory", 1),
        Reason("infeasible", "infeasible: model.d_model <= 256", 1),
    )
    assert (counts.complete, counts.pruned, counts.diverged, counts.failed) == (2, 2, 3, 3)
    assert (counts.infeasible, counts.duplicate, counts.counted, counts.total) == (1, 1, 10, 12)


outcomes = st.builds(
    lambda state, value, attributes: (state, value, attributes),
    st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]),
    st.floats(allow_nan=False),
    st.fixed_dictionaries(
        {},
        optional={
            "diverged": st.booleans(),
            "infeasible": st.just("epochs <= 3"),
            "duplicate_of": st.just(0),
            "reason": st.text(max_size=20),
            "gap": st.floats(),
            "seconds": st.floats(0, 1e6),
        },
    ),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(outcomes, max_size=9))
def test_counts_add_up(drawn: list[tuple[TrialState, float, dict[str, Any]]]) -> None:
    study = optuna.create_study(direction="maximize")
    for state, value, attributes in drawn:
        stored = value if state == TrialState.COMPLETE else None
        study.add_trial(create_trial(state=state, value=stored, user_attrs=attributes))
    analysis = analyze(study)
    counts = analysis.counts
    assert counts.total == len(drawn)
    uncounted = sum(
        not state.is_finished() or "infeasible" in attributes or "duplicate_of" in attributes
        for state, _, attributes in drawn
    )
    assert counts.counted == len(drawn) - uncounted
    for state in ("pruned", "diverged", "failed", "infeasible"):
        of_state = sum(reason.trials for reason in counts.reasons if reason.state == state)
        assert of_state == getattr(counts, state)
    assert len(analysis.top.trials) <= counts.complete
    assert analysis.gap is None or analysis.gap.trials <= counts.complete


@pytest.mark.parametrize(("direction", "numbers"), [("maximize", [4, 1, 3]), ("minimize", [0, 1, 3])])
def test_top_trials_follow_the_direction(direction: str, numbers: list[int]) -> None:
    study = study_of(
        trial(0.1), trial(0.5), trial(None, TrialState.FAIL), trial(0.5), trial(0.9), trial(0.9, duplicate_of=4),
        trial(math.inf), trial(-math.inf), trial(0.95, TrialState.PRUNED), trial(0.01, TrialState.PRUNED),
        direction=direction,
    )  # fmt: skip
    top = top_trials(data_of(study), 3)
    assert [entry.number for entry in top.trials] == numbers


def test_top_trials_tell_what_differs() -> None:
    study = study_of(
        trial(0.9, rate=0.1, gap=0.02, epochs_done=4, epochs_asked=10, best_epoch=3),
        trial(0.8, rate=0.2, gap=math.nan),
        trial(0.1, rate=0.2, optimizer="SGD"),
    )
    top = top_trials(data_of(study), 2)
    assert top.differing == ("learning_rate",)
    assert top.shared == {"optimizer": "Adam"}
    first, second = top.trials
    assert (first.gap, first.epochs_done, first.epochs_asked, first.best_epoch) == (0.02, 4, 10, 3)
    assert (second.gap, second.epochs_done) == (None, None)
    assert second.parameters == {"learning_rate": 0.2, "optimizer": "Adam"}
    assert set(top_trials(data_of(study), 3).differing) == {"learning_rate", "optimizer"}


def test_an_inactive_parameter_differs_from_every_value() -> None:
    study = study_of(trial(0.9))
    study.add_trial(create_trial(value=0.8, params={"optimizer": "Adam"}, distributions={"optimizer": OPTIMIZER}))
    top = top_trials(data_of(study), 5)
    assert top.differing == ("learning_rate",)
    assert "learning_rate" not in top.trials[1].parameters


def test_gap_by_hand() -> None:
    study = study_of(
        trial(0.9, gap=0.06), trial(0.8, gap=0.01), trial(0.7, gap=-0.02), trial(0.7, gap=0.03), trial(0.7),
        trial(None, TrialState.PRUNED, gap=5.0), trial(0.7, gap=9.0, duplicate_of=0), trial(0.7, gap=math.nan),
    )  # fmt: skip
    gap = gap_of(data_of(study))
    assert gap == Gap(4, pytest.approx(0.02), pytest.approx(0.02), (Above(0.01, 0.5), Above(0.05, 0.25)))


def test_no_gap_where_none_was_recorded() -> None:
    assert gap_of(data_of(study_of(trial(0.9)))) is None
    assert gap_of(data_of(study_of())) is None


@pytest.mark.parametrize(("direction", "best", "gain"), [("maximize", 0.9, 0.4), ("minimize", 0.2, 0.3)])
def test_gain_is_positive_where_the_best_is_better(direction: str, best: float, gain: float) -> None:
    study = study_of(
        trial(0.5, enqueued="default recipe"), trial(0.9), trial(0.2, enqueued="by hand"), direction=direction
    )
    found = gain_over_default(data_of(study), best)
    assert found == Gain(0, "complete", 0.5, pytest.approx(gain))
    assert analyze(study).gain == found


def test_gain_without_a_default_or_without_its_value() -> None:
    assert gain_over_default(data_of(study_of(trial(0.5))), 0.5) is None
    broken = study_of(trial(None, TrialState.FAIL, enqueued="default recipe"), trial(0.9))
    assert gain_over_default(data_of(broken), 0.9) == Gain(0, "failed", None, None)
