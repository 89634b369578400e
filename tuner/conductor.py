"""The conductor: asks for trials, trains them in rounds, records, prunes, tells, and goes on after anything.

A round trains one epoch of every trial in flight. Then, in trial order: all reports are written, pruning is decided
on the state at the round's end, and the ended are told; all that, with the name of a checkpoint of the others, is one
transaction. Filling the free places is another. So the database always stands between two of them, and a process
that takes over finds all it needs to do exactly what this one would have done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.engines.local import FUSED
from tuner.errors import InterruptedRunError, SearchStoppedError
from tuner.events import Emit, Note, StudyEnded, TrialStarted
from tuner.proposing.proposal import Proposal
from tuner.proposing.pruners import build_pruner, longest
from tuner.proposing.samplers import build_sampler
from tuner.recipe import Recipe
from tuner.rounds.asking import Asked, Asker
from tuner.rounds.checkpoints import Checkpoints
from tuner.rounds.flight import Body, Flight, Unstarted
from tuner.rounds.recording import Recorder
from tuner.rounds.score import Score
from tuner.search_space.space import SearchSpace
from tuner.signals import Interrupts
from tuner.storage.bulk import ConflictError
from tuner.storage.studies import OpenStudy
from tuner.training.keeping import Keep
from tuner.training.run import EpochRecord
from tuner.training.trainer import free_memory, is_out_of_memory

CHECKPOINT_SECONDS = 60.0
"""A round that takes longer is checkpointed within, this often."""


class Engine(Protocol):
    """Where trials train."""

    def how(self, recipe: Recipe) -> str:
        """How a recipe trains, recorded with its trial: `fused`, or alone and why."""

    def shape_of(self, recipe: Recipe) -> str:
        """Equal for recipes that can train fused with one another."""

    def start(self, recipe: Recipe, how: str, between_steps: Callable[[], None]) -> Body:
        """What trains a recipe; between its steps it calls the given function, which may raise."""

    def epoch(
        self, members: Sequence[Any], between_steps: Callable[[], None]
    ) -> list[list[EpochRecord] | BaseException]:
        """Train an epoch of trials that train fused; gives the records of each, or why it failed."""


StartObjective = Callable[[optuna.Trial], Body]
"""Makes the body of a trial of a user's objective function."""


Examine = Callable[[Any, Callable[[], None]], Mapping[str, Any]]
"""Looks at the body of a trial that has trained to its end; gives user attributes to record with it.

The given function is to be called now and then, and may raise.
"""


class _NotTheTrialsError(BaseException):
    """Carries an error of the conductor's own (`cause`) through a run, past all that catch those of the trial."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Conductor:
    """Runs one study to the end of its budget. Give it an `engine`, or for an objective function `start_objective`.

    `check` is called between steps, and may raise to end the search; `examine` for each trial that has trained to its
    end, before it is recorded as complete.
    """

    def __init__(
        self,
        opened: OpenStudy,
        space: SearchSpace,
        emit: Emit,
        interrupts: Interrupts,
        keep: Keep,
        engine: Engine | None = None,
        start_objective: StartObjective | None = None,
        check: Callable[[], None] = lambda: None,
        examine: Examine | None = None,
    ) -> None:
        self.check, self.examine = check, examine
        self.study, self.storage, self.space, self.emit = opened.study, opened.storage, space, emit
        self.interrupts, self.engine, self.start_objective = interrupts, engine, start_objective
        self.recorder = Recorder(opened, space, keep, emit)
        shape_of = None if engine is None else engine.shape_of
        self.asker = Asker(self.recorder, space, interrupts, self.seconds_used, shape_of)
        self.checkpoints = Checkpoints(opened.files / "checkpoints", lambda text: emit(Note(text, "warning")))
        attrs = self.study.user_attrs
        self.seconds_before = float(attrs.get("seconds_used", 0.0))
        self.checkpoint: str | None = attrs.get("checkpoint")
        self.round_checkpoint = self.checkpoint
        self.has_rounds = "checkpoint" in attrs
        self.started = self.checkpointed = time.monotonic()
        self.flying: list[Flight] = []
        self.study.sampler = build_sampler("random", {})
        self._build_pruner(attrs.get("max_resource"))

    def _build_pruner(self, max_resource: int | None) -> None:
        space, options = self.space, dict(self.space.pruner_kwargs)
        most_epochs = None if self.start_objective else space.most_epochs()
        if max_resource is not None:
            options["max_resource"] = max_resource
        self.study.pruner = build_pruner(space.pruner, options, most_epochs)
        # Hyperband knows its brackets only after a first question; asked now, a resumed study has them as early.
        self.study.pruner.prune(self.study, optuna.trial.create_trial(state=TrialState.RUNNING))

    @property
    def score(self) -> Score:
        """How the study stands."""
        return self.recorder.score

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
            asked = self._fill()
            while self.flying:
                self._round()
                asked = self._fill()
        except InterruptedRunError:
            self.study.set_user_attr("seconds_used", self.seconds_used())
            raise
        return self._finish(asked)

    def _finish(self, asked: Asked) -> StudyEnded:
        """Say that the study has ended, or raise why it must stop."""
        score, reason = self.score, asked.reason
        name, seconds = self.study.study_name, self.seconds_used()
        ended = StudyEnded(name, reason, score.counted, score.best_value, score.best_trial, seconds)
        with self.recorder.transaction():
            self._note_round()
            if asked.stop:
                self.asker.tell_stop()
            else:
                self.study.set_user_attr("ended", reason)
                self.recorder.announce(ended)
        self._drop_files()
        if asked.stop:
            raise SearchStoppedError(asked.stop)
        return ended

    # Asking.

    def _fill(self) -> Asked:
        """Ask for trials until `parallel` are in flight, or there is a reason to ask for no more."""
        while True:
            try:
                with self.recorder.transaction():
                    asked = self.asker.fill(len(self.flying))
                    self._note_how(asked.proposals)
                    self._announce_start(asked.proposals)
                break
            except ConflictError:
                self.recorder.reread()
                self.asker.reread()
        for proposal in asked.proposals:
            self.flying.append(self._begun(proposal))
        for trial in asked.trials:
            self._begin_objective(trial)
        return asked

    def _note_how(self, proposals: list[Proposal]) -> None:
        """Record how each will train, before it does: it stays so, whatever this machine has in memory later."""
        for proposal in proposals:
            assert self.engine is not None
            how = self.engine.how(proposal.recipe)
            self.storage.set_trial_user_attr(proposal.trial_id, "trained", how)

    def _announce_start(self, proposals: list[Proposal]) -> None:
        for proposal in proposals:
            done = len(self.storage.get_trial(proposal.trial_id).intermediate_values)
            epochs = proposal.recipe.epochs
            self.recorder.announce(TrialStarted(proposal.number, dict(proposal.values), epochs, done))

    def _begun(self, proposal: Proposal) -> Flight:
        """A proposed trial, ready for its first step."""
        flight = Flight(proposal.number, proposal.trial_id, proposal.values, Unstarted(), proposal.recipe.model_dump())
        self._start(flight, proposal)
        return flight

    def _start(self, flight: Flight, proposal: Proposal) -> None:
        assert self.engine is not None
        how = self.storage.get_trial(flight.trial_id).user_attrs.get("trained", "")
        try:
            flight.body = self.engine.start(proposal.recipe, how, self._between_steps)
            flight.fused = how == FUSED
        except Exception as error:
            self._fail(flight, error)

    def _begin_objective(self, trial: optuna.Trial) -> None:
        assert self.start_objective is not None
        self.asker.seed_sampler(trial.number)
        self.emit(TrialStarted(trial.number, dict(trial.params), 0))
        self.flying.append(Flight(trial.number, trial._trial_id, trial.params, self.start_objective(trial)))

    # Taking over.

    def _take_over(self) -> None:
        """Put what an earlier process left RUNNING back in flight, under its own number and parameters."""
        running = self.storage.adopt(self.study._study_id)
        if self.start_objective is not None:
            for trial in running:
                self.storage.forget(trial._trial_id)
                self._begin_objective(optuna.trial.Trial(self.study, trial._trial_id))
            return
        with self.recorder.transaction():
            proposals = [proposal for trial in running if (proposal := self._taken(trial)) is not None]
            self.recorder.duplicates()
            self._announce_start(proposals)
        self.flying = [self._begun(proposal) for proposal in proposals]
        for flight in self.flying:
            self._restore(flight)
        self.checkpoints.release()
        for flight in self.flying:
            self._catch_up(flight)

    def _taken(self, trial: FrozenTrial) -> Proposal | None:
        """What a trial was to train, or None where there is nothing to train."""
        if "recipe" not in trial.user_attrs:
            reason = "it was begun by another program, and has no recipe"
            flight = Flight(trial.number, trial._trial_id, trial.params, Unstarted())
            flight.outcome = (TrialState.FAIL, reason)
            self.recorder.end(flight)
            return None
        if "values" not in trial.user_attrs or not self.has_rounds:
            # Begun by `Objective` in plain Optuna, or by a version that wrote no rounds: it begins again.
            self.storage.forget(trial._trial_id, parameters=False)
            self.recorder.epochs.forget(trial._trial_id)
        proposal = self.asker.proposer.again(trial)
        if proposal.infeasible:
            self.recorder.infeasible(proposal)
        return proposal if proposal.duplicate_of is None and not proposal.infeasible else None

    def _restore(self, flight: Flight) -> None:
        """Bring a trial to the newest state that a checkpoint has of it, or to its beginning."""
        trial = self.storage.get_trial(flight.trial_id)
        flight.recorded = len(trial.intermediate_values)
        flight.retries = max(flight.retries, trial.user_attrs.get("retries", 0))
        for state in self.checkpoints.states(flight.number, self.checkpoint):
            try:
                flight.body.load_state_dict(state)
                if flight.body.result().epochs_done <= flight.recorded + 1:
                    break
            except Exception as error:  # of another version of the task, say
                note = f"trial {flight.number}: its checkpoint does not fit ({type(error).__name__}: {error})"
                self.emit(Note(f"{note}; it begins again", "warning"))
            self._start(flight, self.asker.proposer.again(trial))
        records = flight.body.result().records
        flight.records = list(records[flight.recorded :])

    def _catch_up(self, flight: Flight) -> None:
        """Train epochs again that are recorded but in no checkpoint, and say so where they come out different."""
        recorded = self.storage.get_trial(flight.trial_id).intermediate_values
        while flight.outcome is None and flight.body.result().epochs_done < flight.recorded:
            for record in self._epoch(flight):
                if record.values[self.space.metric] != recorded.get(record.epoch):
                    where = f"trial {flight.number}, epoch {record.epoch}"
                    self.emit(Note(f"{where}: trained again, it gave another value, as on a GPU it may", "warning"))

    # Rounds.

    def _round(self) -> None:
        """One epoch of every trial in flight, then everything that follows from it."""
        self._train([flight for flight in self.flying if flight.outcome is None and not flight.records])
        for flight in self.flying:
            if flight.failure is not None:
                self._retry(flight)
        if self.examine is not None:
            for flight in self.flying:
                self._examine(flight, self.examine)
        with self.recorder.transaction():
            for flight in self.flying:
                self.recorder.report(flight)
            for flight in self.flying:
                self._decide(flight)
            ended = [flight for flight in self.flying if flight.outcome is not None]
            self.flying = [flight for flight in self.flying if flight.outcome is None]
            for flight in ended:
                self.recorder.end(flight)
            self.recorder.duplicates()
            self._note_steps()
            self._note_round()
        self.round_checkpoint = self.checkpoint
        self._drop_files()

    def _train(self, flights: list[Flight]) -> None:
        """The next epoch of each; records are kept until the round's end."""
        assert not any(flight.body.done for flight in flights)
        fused = [flight for flight in flights if flight.fused]
        if fused:
            self._train_fused(fused)
        for flight in flights:
            if not flight.fused:
                self._train_alone(flight)

    def _train_fused(self, flights: list[Flight]) -> None:
        assert self.engine is not None
        try:
            with self.interrupts.at_safe_points():
                ended = self.engine.epoch([flight.body for flight in flights], self._between_steps)
        except _NotTheTrialsError as error:
            raise error.cause from None
        self.interrupts.check()
        for flight, found in zip(flights, ended, strict=True):
            if isinstance(found, BaseException):
                self._fail(flight, found)
            else:
                flight.records = found
                flight.seconds += sum(record.seconds for record in found)

    def _train_alone(self, flight: Flight) -> None:
        try:
            flight.records = self._epoch(flight)
        except optuna.TrialPruned as pruned:
            step = self.storage.get_trial(flight.trial_id).last_step
            where = "" if step is None else f" at step {step}"
            flight.outcome = (TrialState.PRUNED, str(pruned) or f"pruned by the objective{where}")

    def _epoch(self, flight: Flight) -> list[EpochRecord]:
        """Train one epoch; a trial that fails has an outcome then, and no records."""
        started, records = time.perf_counter(), []
        own_code = self.start_objective is not None  # a user's function has no safe points
        try:
            with self.interrupts.at_once() if own_code else self.interrupts.at_safe_points():
                records = flight.body.epoch()
        except optuna.TrialPruned:
            raise
        except _NotTheTrialsError as error:
            raise error.cause from None
        except (Exception, SystemExit) as error:
            self.interrupts.check()  # a signal may be what disturbed it
            self._fail(flight, error)
        finally:
            flight.seconds += time.perf_counter() - started
        self.interrupts.check()
        return records

    def _between_steps(self) -> None:
        """Where a run may be interrupted, and a long round is checkpointed."""
        self.interrupts.check()
        try:
            self.check()
            if time.monotonic() - self.checkpointed >= CHECKPOINT_SECONDS:
                with self.storage.transaction():
                    self._note_round()
                self.checkpoints.drop_others(self.checkpoint, self.round_checkpoint)
        except Exception as error:
            raise _NotTheTrialsError(error) from error

    def _fail(self, flight: Flight, error: BaseException) -> None:
        lines = str(error).strip().splitlines()
        reason = "out of memory" if is_out_of_memory(error) else f"{type(error).__name__}: {lines[0] if lines else ''}"
        flight.outcome, flight.failure = (TrialState.FAIL, reason), error

    def _retry(self, flight: Flight) -> None:
        """Try a trial that failed again, from its last checkpoint, as often as the policy allows.

        One that was out of memory is tried once more in any case: the others' epochs are over and hold less of it.
        """
        while flight.failure is not None and flight.retries < self.space.retries + is_out_of_memory(flight.failure):
            self.emit(Note(f"trial {flight.number} failed ({flight.failure!r}) and is tried again"))
            flight.retries += 1
            flight.outcome, flight.failure, flight.body = None, None, Unstarted()
            free_memory()
            if self.start_objective is not None:
                self.storage.forget(flight.trial_id)
                self.asker.seed_sampler(flight.number)
                flight.body = self.start_objective(optuna.trial.Trial(self.study, flight.trial_id))
            else:
                self._start(flight, self.asker.proposer.again(self.storage.get_trial(flight.trial_id)))
                self._restore(flight)
                self.checkpoints.release()
                self._catch_up(flight)
            if flight.outcome is None and not flight.records:
                self._train_alone(flight)

    def _examine(self, flight: Flight, examine: Examine) -> None:
        """Have a trial that has trained to its end looked at; what fails there fails the trial."""
        if flight.outcome is not None or not flight.body.done or flight.body.result().diverged:
            return
        try:
            with self.interrupts.at_safe_points():
                flight.noted = dict(examine(flight.body, self._between_steps))
        except _NotTheTrialsError as error:
            raise error.cause from None
        except Exception as error:
            self.interrupts.check()
            self._fail(flight, error)
        self.interrupts.check()

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

    def _note_steps(self) -> None:
        """Once an objective function has shown how many steps it takes, hyperband can prune; within a transaction."""
        options, attrs = self.space.pruner_kwargs, self.study.user_attrs
        if self.start_objective is None or self.space.pruner != "hyperband":
            return
        if "max_resource" in options or "max_resource" in attrs:
            return
        steps = longest(self.study)
        if steps is not None:
            self.study.set_user_attr("max_resource", steps)
            self._build_pruner(steps)

    def _note_round(self) -> None:
        """Save the states in flight, and write the name of their file and the time used; within a transaction."""
        if self.start_objective is None:
            flying = [flight for flight in self.flying if flight.outcome is None]
            self.checkpoint = self.checkpoints.save(flying, self.checkpoint)
            self.study.set_user_attr("checkpoint", self.checkpoint)
        self.study.set_user_attr("seconds_used", self.seconds_used())
        self.checkpointed = time.monotonic()

    def _drop_files(self) -> None:
        """Delete what the last transaction made superfluous."""
        if self.start_objective is None:
            self.recorder.drop_files()
            self.checkpoints.drop_others(self.checkpoint)
