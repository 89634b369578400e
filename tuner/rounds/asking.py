"""Asker: fills the free places with trials, or says why there are no more (contracts C2 and C3)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuner.proposing.groups import ShapeOf
from tuner.proposing.proposal import COUNTABLE_COMBINATIONS, Proposal, Proposer
from tuner.proposing.samplers import build_sampler
from tuner.rounds.flight import Flight, Unstarted
from tuner.rounds.recording import Recorder
from tuner.rounds.score import counts
from tuner.rounds.width import GROUP_SIZE, has_room
from tuner.search_space.space import SearchSpace
from tuner.signals import Interrupts

FRUITLESS_IN_A_ROW = 1_000
"""So many infeasible proposals, or so many duplicates, one behind the other, end a study."""

FAILURES_ALIKE = 3
"""If the first trials all fail, and alike, as many as this stop the study."""


@dataclass
class Asked:
    """What came of asking: proposals to train (for an objective function, trials), and why there are no more.

    `reason` ends the study when all trials in flight have; `stop` does too, as an error.
    """

    proposals: list[Proposal] = field(default_factory=list)
    trials: list[optuna.Trial] = field(default_factory=list)
    reason: str = ""
    stop: str = ""


class Asker:
    """Asks for trials of one study. What it remembers follows from the study's records, and `reread` takes it there.

    `shape_of` gives equal words for recipes that can train as one batched model: those are asked for together.
    """

    def __init__(
        self,
        recorder: Recorder,
        space: SearchSpace,
        interrupts: Interrupts,
        seconds_used: Callable[[], float],
        shape_of: ShapeOf | None = None,
    ) -> None:
        self.recorder, self.space, self.interrupts, self.seconds_used = recorder, space, interrupts, seconds_used
        self.study, self.storage = recorder.study, recorder.storage
        self.shape_of = None if space.parallel < 2 or space.fuse == "off" else shape_of
        self.size = None if space.function is not None else space.size(COUNTABLE_COMBINATIONS)
        self.reread()

    def reread(self) -> None:
        """Begin again from the study's records."""
        self.proposer = Proposer(self.study, self.storage, self.space, self.shape_of, GROUP_SIZE)
        self.infeasible_in_a_row = at_the_end(self.study, "infeasible")
        self.duplicates_in_a_row = at_the_end(self.study, "duplicate_of")
        self.stop_told = int(self.study.user_attrs.get("stop_told", 0))

    def fill(self, in_flight: int) -> Asked:
        """Ask until as many trials as there should be are in flight; to be called within a transaction."""
        asked = Asked()
        flying = in_flight
        while has_room(self.space, flying, self.recorder.score.known):
            self.interrupts.check()
            asked.stop = self._stop(flying)
            asked.reason = self._finished(flying)
            if asked.stop or asked.reason:
                break
            if self.space.function is not None:
                asked.trials.append(self.study.ask())
                flying += 1
                continue
            with self.interrupts.at_once():  # some samplers take long, and nothing is written before the end
                proposal = self.proposer.ask(self._wanted(flying))
            if proposal is None:
                asked.reason = self._all_tried()
                break
            self._sort(proposal, asked)
            flying = in_flight + len(asked.proposals)
        return asked

    def _wanted(self, in_flight: int) -> int | None:
        """How many trials the budget still asks for; None is no bound."""
        trials = self.space.budget.trials
        return None if trials is None else trials - self.recorder.score.counted - in_flight

    def _stop(self, in_flight: int) -> str:
        """Why the study cannot go on; said once, and again only when another trial has been asked for in vain."""
        failures = self.recorder.score.failures
        if self.infeasible_in_a_row < FRUITLESS_IN_A_ROW and (in_flight or len(failures) < FAILURES_ALIKE):
            return ""
        trials = self.study.get_trials(deepcopy=False)
        if len(trials) <= self.stop_told:
            return ""
        if self.infeasible_in_a_row >= FRUITLESS_IN_A_ROW:
            last = next(
                trial.user_attrs["infeasible"] for trial in reversed(trials) if "infeasible" in trial.user_attrs
            )
            head = f"{self.infeasible_in_a_row:,} proposals in a row broke a constraint, the last one '{last}'"
            return f"{head}: loosen it, or narrow the ranges"
        return all_failed_alike([trial for trial in trials if counts(trial)])

    def tell_stop(self) -> None:
        """Note that the reason to stop is told: who runs the study again wants it to go on."""
        self.stop_told = len(self.study.get_trials(deepcopy=False))
        self.study.set_user_attr("stop_told", self.stop_told)

    def _finished(self, in_flight: int) -> str:
        """Why no more trials are asked for, or "" if there is room."""
        budget, score = self.space.budget, self.recorder.score
        if budget.trials is not None and score.counted + in_flight >= budget.trials:
            return f"{score.counted + in_flight} of {budget.trials} trials are done"
        if budget.seconds is not None and self.seconds_used() >= budget.seconds:
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

    def _sort(self, proposal: Proposal, asked: Asked) -> None:
        """Take a proposal to train; one that is infeasible, a duplicate or unfit is recorded instead."""
        if proposal.unfit:
            flight = Flight(proposal.number, proposal.trial_id, {}, Unstarted())
            flight.outcome = (TrialState.FAIL, f"the queued values do not fit the search space: {proposal.unfit}")
            self.recorder.end(flight)
        elif proposal.infeasible:
            self.recorder.infeasible(proposal)
            self.infeasible_in_a_row += 1
            self.duplicates_in_a_row = 0
        elif proposal.duplicate_of is not None:
            self.infeasible_in_a_row = 0
            self.duplicates_in_a_row += 1
            self.recorder.duplicate(proposal.trial_id, proposal.duplicate_of)
        else:
            self.infeasible_in_a_row = self.duplicates_in_a_row = 0
            asked.proposals.append(proposal)

    def seed_sampler(self, number: int) -> None:
        """Give the study the sampler of trial `number`, which an objective function draws from as it runs."""
        space = self.space
        self.study.sampler = build_sampler(space.sampler, space.sampler_kwargs, space.study_seed, number)


def at_the_end(study: optuna.Study, attribute: str) -> int:
    """How many of a study's last proposals have a user attribute, one behind the other."""
    trials = reversed(study.get_trials(deepcopy=False))
    return sum(1 for _ in itertools.takewhile(lambda trial: attribute in trial.user_attrs, trials))


def all_failed_alike(counted: Sequence[FrozenTrial]) -> str:
    """That a study's first trials all failed alike, with the last one's traceback; "" if they did not."""
    alike = {re.sub(r"\d+", "0", trial.user_attrs.get("reason", "")) for trial in counted}
    if len(alike) != 1 or not all("traceback" in trial.user_attrs for trial in counted):
        return ""
    last = counted[-1].user_attrs
    head = f"the first {len(counted)} trials all failed alike, so the study stops: {last['reason']}"
    return f"{head}\n{last['traceback'].rstrip()}"
