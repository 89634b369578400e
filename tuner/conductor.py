"""The conductor: asks for trials, trains them in rounds, records, prunes, tells, and goes on after anything.

A round trains one epoch of every trial in flight. Then, in trial order: all reports are written, pruning is
decided on the state at the round's end, the ended are told, and the free places are filled.
"""

from __future__ import annotations

import itertools
import re
import time
import traceback
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.errors import SearchStoppedError
from tuner.events import Emit, EpochDone, Note, StudyEnded, TrialEnded, TrialStarted
from tuner.flight import Body, Flight, Unstarted
from tuner.proposing.proposal import COUNTABLE_COMBINATIONS, Proposal, Proposer
from tuner.proposing.pruners import build_pruner
from tuner.proposing.samplers import build_sampler
from tuner.score import score_of
from tuner.search_space.space import SearchSpace
from tuner.signals import Interrupts
from tuner.storage.studies import OpenStudy
from tuner.training.keeping import Keep, drop_others, save_trial, weights_path
from tuner.training.run import EpochRecord, Result
from tuner.training.series import save_series
from tuner.training.trainer import is_out_of_memory

FRUITLESS_IN_A_ROW = 1_000
"""So many infeasible proposals, or so many duplicates, one behind the other, end a study."""

FAILURES_ALIKE = 3
"""If the first trials all fail, and alike, as many as this stop the study."""


class Conductor:
    """Runs one study to the end of its budget.

    `start` makes the body of a proposed trial; for an objective function there are no proposals, and
    `start_objective` makes the body of an Optuna trial.
    """

    def __init__(
        self,
        opened: OpenStudy,
        space: SearchSpace,
        emit: Emit,
        interrupts: Interrupts,
        keep: Keep,
        start: Callable[[Proposal], Body] | None = None,
        start_objective: Callable[[optuna.Trial], Body] | None = None,
    ) -> None:
        self.study, self.storage, self.epochs = opened.study, opened.storage, opened.epochs
        self.files, self.space, self.emit = opened.files, space, emit
        self.interrupts, self.keep = interrupts, keep
        self.start, self.start_objective = start, start_objective
        most_epochs = None if start_objective else space.most_epochs()
        self.study.pruner = build_pruner(space.pruner, space.pruner_kwargs, most_epochs)
        # Hyperband knows its brackets only after a first question; asked now, a resumed study has them as early.
        self.study.pruner.prune(self.study, optuna.trial.create_trial(state=TrialState.RUNNING))
        self.proposer = Proposer(self.study, self.storage, space)
        self.size = None if start_objective else space.size(COUNTABLE_COMBINATIONS)
        self.score = score_of(self.study, space.maximize)
        self.flying: list[Flight] = []
        self.waiting: list[tuple[FrozenTrial, int]] = []
        self.infeasible_in_a_row = infeasible_at_the_end(self.study)
        self.duplicates_in_a_row = 0
        self.seconds_before = float(self.study.user_attrs.get("seconds_used", 0.0))
        self.started = time.monotonic()

    @property
    def seconds_used(self) -> float:
        """Wall time that the study took, over all runs of it."""
        return self.seconds_before + time.monotonic() - self.started

    def run(self) -> StudyEnded:
        """Go on until the budget is used up or nothing is left to try.

        Raises `InterruptedRunError` on a signal, `SearchStoppedError` where going on makes no sense.
        """
        self.study.set_user_attr("ended", "")
        try:
            self._take_over()
            while True:
                reason = self._fill()
                if not self.flying:
                    break
                self._round()
        except SearchStoppedError as error:
            for flight in self.flying:
                flight.outcome = (TrialState.FAIL, f"the study stopped: {str(error).splitlines()[0]}")
                self._tell(flight)
            raise
        finally:
            self.study.set_user_attr("seconds_used", self.seconds_used)
            if self.start_objective is None:
                drop_others(self.files, self.keep.chosen(self.score.values, self.space.maximize))
        ended = StudyEnded(
            self.study.study_name,
            reason,
            self.score.counted,
            self.score.best_value,
            self.score.best_trial,
            self.seconds_used,
        )
        self.study.set_user_attr("ended", reason)
        self.emit(ended)
        return ended

    def _take_over(self) -> None:
        """Start what an earlier process left RUNNING anew, under its own number and parameters."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.epochs.forget(trial._trial_id, parameters=self.start_objective is not None)
            self.interrupts.check()
            if self.start_objective is not None:
                self._seed_sampler(trial.number)
                self._begin_objective(optuna.trial.Trial(self.study, trial._trial_id), restarted=True)
                continue
            whole = {"recipe", "values"} <= trial.user_attrs.keys()
            proposal = self.proposer.again(trial) if whole else self.proposer.ask(trial)
            if proposal is None:
                self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            else:
                self._begin(proposal, restarted=True)

    def _fill(self) -> str:
        """Ask for trials until `parallel` are in flight; where it asks for no more, the reason why."""
        while len(self.flying) < self.space.parallel:
            self.interrupts.check()
            reason = self._finished()
            if reason:
                return reason
            if self.start_objective is not None:
                trial = self.study.ask()
                self._seed_sampler(trial.number)
                self._begin_objective(trial)
                continue
            proposal = self.proposer.ask()
            if proposal is None:
                return self._all_tried()
            self._begin(proposal)
        return ""

    def _finished(self) -> str:
        """Why no more trials are asked for, or "" if there is room."""
        budget, score = self.space.budget, self.score
        if budget.trials is not None and score.counted + len(self.flying) >= budget.trials:
            return f"{score.counted + len(self.flying)} of {budget.trials} trials are done"
        if budget.seconds is not None and self.seconds_used >= budget.seconds:
            return f"the time of {budget.seconds:g} s is used up"
        if budget.stop_without_improvement and score.since_best >= budget.stop_without_improvement:
            return f"{score.since_best} trials brought no improvement"
        if self.proposer.exhausted(self.size):
            return self._all_tried()
        if self.duplicates_in_a_row >= FRUITLESS_IN_A_ROW:
            return f"the sampler proposed nothing new {self.duplicates_in_a_row} times in a row"
        return ""

    def _all_tried(self) -> str:
        number = "" if self.size is None else f" one of the {self.size:,}"
        return f"every{number} combination{'' if self.size is None else 's'} is tried"

    def _begin(self, proposal: Proposal, restarted: bool = False) -> None:
        """Put a proposal in flight; one that is infeasible, a duplicate or unfit is recorded at once instead."""
        if proposal.unfit:
            flight = Flight(proposal.number, proposal.trial_id, {}, Unstarted())
            flight.outcome = (TrialState.FAIL, f"the queued values do not fit the search space: {proposal.unfit}")
            self._tell(flight)
            return
        if proposal.infeasible:
            self._record_infeasible(proposal)
            return
        self.infeasible_in_a_row = 0
        if proposal.duplicate_of is not None:
            self.duplicates_in_a_row += 1
            self.waiting.append((self.storage.get_trial(proposal.trial_id), proposal.duplicate_of))
            self._tell_duplicates()
            return
        self.duplicates_in_a_row = 0
        assert self.start is not None
        recipe = proposal.recipe.model_dump()
        self.emit(TrialStarted(proposal.number, dict(proposal.values), proposal.recipe.epochs, restarted))
        flight = Flight(proposal.number, proposal.trial_id, proposal.values, Unstarted(), recipe)
        try:
            flight.body = self.start(proposal)
        except Exception as error:
            self._fail(flight, error)
        self.flying.append(flight)

    def _seed_sampler(self, number: int) -> None:
        """Give the study the sampler of trial `number`, which an objective function draws from as it runs."""
        space = self.space
        self.study.sampler = build_sampler(space.sampler, space.sampler_kwargs, space.study_seed, number)

    def _begin_objective(self, trial: optuna.Trial, restarted: bool = False) -> None:
        assert self.start_objective is not None
        self.emit(TrialStarted(trial.number, dict(trial.params), 0, restarted))
        self.flying.append(Flight(trial.number, trial._trial_id, trial.params, self.start_objective(trial)))

    def _record_infeasible(self, proposal: Proposal) -> None:
        self.storage.set_trial_user_attr(proposal.trial_id, "reason", f"infeasible: {proposal.infeasible}")
        self.storage.set_trial_state_values(proposal.trial_id, TrialState.PRUNED)
        self.infeasible_in_a_row += 1
        if self.infeasible_in_a_row >= FRUITLESS_IN_A_ROW:
            raise SearchStoppedError(
                f"{self.infeasible_in_a_row:,} proposals in a row broke a constraint, the last one "
                f"'{proposal.infeasible}': loosen it, or narrow the ranges"
            )

    def _tell_duplicates(self) -> None:
        """Give each duplicate whose original has ended the original's state and value."""
        still = []
        for trial, original in self.waiting:
            first = self.study.get_trials(deepcopy=False)[original]
            if not first.state.is_finished():
                still.append((trial, original))
                continue
            self.storage.set_trial_user_attr(trial._trial_id, "reason", f"the same recipe as trial {original}")
            for step, value in first.intermediate_values.items():
                self.storage.set_trial_intermediate_value(trial._trial_id, step, value)
            self.storage.set_trial_state_values(trial._trial_id, first.state, first.values)
        self.waiting = still

    def _round(self) -> None:
        """One epoch of every trial in flight, then everything that follows from it."""
        for flight in self.flying:
            if flight.outcome is None:
                self._train(flight)
        self._report()
        for flight in self.flying:
            self._decide(flight)
        ended = [flight for flight in self.flying if flight.outcome is not None]
        self.flying = [flight for flight in self.flying if flight.outcome is None]
        for flight in ended:
            self._tell(flight)
        self._tell_duplicates()
        for flight in ended:
            self._stop_if_all_fail_alike(flight)

    def _train(self, flight: Flight) -> None:
        started = time.perf_counter()
        own_code = self.start_objective is not None  # a user's function has no safe points
        try:
            with self.interrupts.at_once() if own_code else self.interrupts.at_safe_points():
                flight.records = flight.body.epoch()
        except optuna.TrialPruned as pruned:
            steps = self.storage.get_trial(flight.trial_id).last_step
            where = "" if steps is None else f" at step {steps}"
            flight.outcome = (TrialState.PRUNED, str(pruned) or f"pruned by the objective{where}")
        except (Exception, SystemExit) as error:
            self._fail(flight, error)
        finally:
            flight.seconds += time.perf_counter() - started
        self.interrupts.check()

    def _fail(self, flight: Flight, error: BaseException) -> None:
        lines = str(error).strip().splitlines()
        reason = "out of memory" if is_out_of_memory(error) else f"{type(error).__name__}: {lines[0] if lines else ''}"
        flight.outcome = (TrialState.FAIL, reason)
        flight.trace = "".join(traceback.format_exception(error))

    def _report(self) -> None:
        """Write what the round brought, in trial order."""
        rows = []
        for flight in self.flying:
            for record in flight.records:
                value = record.values[self.space.metric]
                self.storage.set_trial_intermediate_value(flight.trial_id, record.epoch, value)
                rows.append(flight.row(record))
                self._announce(flight, record, value)
            flight.records = []
        self.epochs.write(rows)

    def _announce(self, flight: Flight, record: EpochRecord, value: float) -> None:
        for note in record.notes:
            self.emit(Note(f"trial {flight.number}, {note}"))
        self.emit(
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

    def _decide(self, flight: Flight) -> None:
        """Whether a trial that has trained has ended: by itself, by divergence, or by the pruner."""
        if flight.outcome is not None:
            return
        result = flight.body.result()
        if result.diverged:
            flight.outcome = (TrialState.PRUNED, result.reason)
        elif flight.body.done:
            flight.outcome = (TrialState.COMPLETE, result.reason)
        elif self.study.pruner.prune(self.study, self.storage.get_trial(flight.trial_id)):
            flight.outcome = (TrialState.PRUNED, f"pruned by the pruner at epoch {result.epochs_done}")

    def _tell(self, flight: Flight) -> None:
        """Record how a trial ended; its state is written last."""
        assert flight.outcome is not None
        state, reason = flight.outcome
        result = flight.body.result()
        value = result.value if state == TrialState.COMPLETE else None
        attrs = {"reason": reason, "seconds": flight.seconds, **result.summary()}
        if result.diverged:
            attrs["diverged"] = True
        if flight.trace:
            attrs["traceback"] = flight.trace
        kept = self._keep_files(flight, value)
        if kept:
            attrs["weights"] = kept
        for key, entry in attrs.items():
            self.storage.set_trial_user_attr(flight.trial_id, key, entry)
        self.study.tell(flight.number, value, state)
        is_best = self.score.add(flight.number, state, value, reason, self.space.maximize)
        if flight.recipe is not None:
            drop_others(self.files, self.keep.chosen(self.score.values, self.space.maximize))
        self.study.set_user_attr("seconds_used", self.seconds_used)
        self._announce_end(flight, state, value, reason, result, is_best)

    def _keep_files(self, flight: Flight, value: float | None) -> str | None:
        """Save the trial's series and, where they are wanted, its weights; gives the weights' path."""
        run: Any = flight.body
        if flight.recipe is None or not run.result().epochs_done:
            return None
        save_series(self.files / "series" / f"trial-{flight.number:04d}.npz", run.series, run.trace)
        if value is None or not self.keep.wants(value, self.score.values.values(), self.space.maximize):
            return None
        path = weights_path(self.files, flight.number)
        save_trial(path, path.with_suffix(".yaml"), run.kept_weights(), flight.recipe, self.space.about())
        return f"{self.files.name}/{path.name}"

    def _announce_end(
        self,
        flight: Flight,
        state: TrialState,
        value: float | None,
        reason: str,
        result: Result,
        is_best: bool,
    ) -> None:
        words = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        self.emit(
            TrialEnded(
                trial=flight.number,
                state="diverged" if result.diverged else words[state],
                value=value,
                reason=reason,
                params=dict(flight.params) or dict(self.storage.get_trial(flight.trial_id).params),
                epochs_done=result.epochs_done,
                epochs_asked=result.epochs_asked,
                seconds=flight.seconds,
                gap=result.summary().get("gap"),
                counted=self.score.counted,
                best_value=self.score.best_value,
                best_trial=self.score.best_trial,
                is_best=is_best,
            )
        )

    def _stop_if_all_fail_alike(self, flight: Flight) -> None:
        failures = self.score.failures
        if not flight.trace or len(failures) < FAILURES_ALIKE or len(failures) < self.score.counted:
            return
        if len({re.sub(r"\d+", "0", failure) for failure in failures}) == 1:
            head = f"the first {len(failures)} trials all failed alike, so the study stops: {failures[0]}"
            raise SearchStoppedError(f"{head}\n{flight.trace.rstrip()}")


def infeasible_at_the_end(study: optuna.Study) -> int:
    """How many of a study's last proposals were infeasible, one behind the other."""
    trials = reversed(study.get_trials(deepcopy=False))
    return sum(1 for _ in itertools.takewhile(lambda trial: "infeasible" in trial.user_attrs, trials))
