"""Recorder: writes what trials report and how they end, and announces it once it is written."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from optuna.trial import TrialState

from tuner.events import Emit, EpochDone, Event, Note, TrialEnded
from tuner.files import series_path, weights_path
from tuner.proposing.proposal import Proposal
from tuner.rounds.flight import Flight
from tuner.rounds.score import score_of
from tuner.search_space.space import SearchSpace
from tuner.storage.studies import OpenStudy
from tuner.training.keeping import Keep, drop_others, save_trial
from tuner.training.run import EpochRecord, Result
from tuner.training.series import save_series

WORDS = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class Recorder:
    """Writes into one study, and knows its score. All but `transaction` is to be called within one."""

    def __init__(self, opened: OpenStudy, space: SearchSpace, keep: Keep, emit: Emit) -> None:
        self.study, self.storage, self.epochs = opened.study, opened.storage, opened.epochs
        self.files, self.space, self.keep, self._emit = opened.files, space, keep, emit
        self._events: list[Event] = []
        self.reread()

    def reread(self) -> None:
        """Take the score, and what waits for others, from the study's records."""
        self.score = score_of(self.study, self.space.maximize)
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self._waiting: list[tuple[int, int]] = [
            (trial._trial_id, trial.user_attrs["duplicate_of"])
            for trial in running
            if "duplicate_of" in trial.user_attrs
        ]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block whose records are written all at once; what it announces is announced after that."""
        self._events = []
        with self.storage.transaction():
            yield
        for event in self._events:
            self._emit(event)

    def announce(self, event: Event) -> None:
        """Emit an event once the transaction is written."""
        self._events.append(event)

    def report(self, flight: Flight) -> None:
        """Write the epochs that a trial has trained since the last round."""
        for record in flight.records:
            value = record.values[self.space.metric]
            self.storage.set_trial_intermediate_value(flight.trial_id, record.epoch, value)
            self._announce_epoch(flight, record, value)
        if flight.retries:
            self.storage.set_trial_user_attr(flight.trial_id, "retries", flight.retries)
        self.epochs.write([flight.row(record) for record in flight.records])
        flight.recorded += len(flight.records)
        flight.records = []

    def _announce_epoch(self, flight: Flight, record: EpochRecord, value: float) -> None:
        for note in record.notes:
            self.announce(Note(f"trial {flight.number}, {note}"))
        self.announce(
            EpochDone(
                trial=flight.number,
                epoch=record.epoch,
                epochs=flight.body.result().epochs_asked,
                train_loss=record.train_loss,
                val_loss=record.val_loss,
                learning_rate=record.learning_rate,
                value=value,
                metrics=dict(record.values),
            )
        )

    def end(self, flight: Flight) -> None:
        """Write how a trial ended, and save its files before that."""
        assert flight.outcome is not None
        state, reason = flight.outcome
        result = flight.body.result()
        value = result.value if state == TrialState.COMPLETE else None
        attrs = {"reason": reason, "seconds": flight.seconds, **result.summary(), **flight.noted}
        if result.diverged:
            attrs["diverged"] = True
        if flight.failure is not None:
            attrs["traceback"] = "".join(traceback.format_exception(flight.failure))
        kept = self._keep_files(flight, value)
        if kept:
            attrs["weights"] = kept
        for key, entry in attrs.items():
            self.storage.set_trial_user_attr(flight.trial_id, key, entry)
        self.study.tell(flight.number, value, state)
        is_best = self.score.add(flight.number, state, value, reason, self.space.maximize)
        self._announce_end(flight, value, result, is_best)

    def _keep_files(self, flight: Flight, value: float | None) -> str | None:
        """Save the trial's series and, where they are wanted, its weights; gives the weights' path."""
        run: Any = flight.body
        if flight.recipe is None or not run.result().epochs_done:
            return None
        save_series(series_path(self.files, flight.number), run.series, run.trace)
        if value is None or not self.keep.wants(value, self.score.with_weights.values(), self.space.maximize):
            return None
        path = weights_path(self.files, flight.number)
        save_trial(path, path.with_suffix(".yaml"), run.kept_weights(), flight.recipe, self.space.about())
        return f"{self.files.name}/{path.name}"

    def drop_files(self) -> None:
        """Delete weights that are no longer wanted; to be called when it is written which are."""
        drop_others(self.files, self.keep.chosen(self.score.with_weights, self.space.maximize))

    def _announce_end(self, flight: Flight, value: float | None, result: Result, is_best: bool) -> None:
        assert flight.outcome is not None
        state, reason = flight.outcome
        summary = result.summary()
        self.announce(
            TrialEnded(
                trial=flight.number,
                state="diverged" if result.diverged else WORDS[state],
                value=value,
                reason=reason,
                params=dict(flight.params) or dict(self.storage.get_trial(flight.trial_id).params),
                epochs_done=result.epochs_done,
                epochs_asked=result.epochs_asked,
                seconds=summary.get("seconds", flight.seconds),
                gap=summary.get("gap"),
                counted=self.score.counted,
                best_value=self.score.best_value,
                best_trial=self.score.best_trial,
                is_best=is_best,
            )
        )

    def infeasible(self, proposal: Proposal) -> None:
        """Write a proposal that breaks a constraint."""
        self.storage.set_trial_user_attr(proposal.trial_id, "reason", f"infeasible: {proposal.infeasible}")
        self.storage.set_trial_state_values(proposal.trial_id, TrialState.PRUNED)

    def duplicate(self, trial_id: int, original: int) -> None:
        """Write a proposal equal to that of trial `original`; it ends as that one does, as soon as it has."""
        self._waiting.append((trial_id, original))
        self.duplicates()

    def duplicates(self) -> None:
        """Give each duplicate whose original has ended the original's reports, state and value."""
        trials = self.study.get_trials(deepcopy=False) if self._waiting else []
        for trial_id, original in self._waiting:
            first = trials[original]
            if not first.state.is_finished():
                continue
            self.storage.set_trial_user_attr(trial_id, "reason", f"the same recipe as trial {original}")
            for step, value in first.intermediate_values.items():
                self.storage.set_trial_intermediate_value(trial_id, step, value)
            self.storage.set_trial_state_values(trial_id, first.state, first.values)
        self._waiting = [entry for entry in self._waiting if not trials[entry[1]].state.is_finished()]
