"""Member: one trial that trains in a group, to which it brings its numbers as a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tuner import optimizers
from tuner.probe import build_model
from tuner.recipe import Recipe
from tuner.training.fused.plan import Plan, Planner
from tuner.training.fused.program import Program
from tuner.training.fused.trajectory import trajectory_of
from tuner.training.fused.updates import Update, update_for
from tuner.training.randomness import seed_generators, undisturbed
from tuner.training.run import EpochRecord, Goal
from tuner.training.standing import Standing, copied
from tuner.training.states import borrowed, snapshot
from tuner.training.sums import Sums

if TYPE_CHECKING:
    from tuner.training.fused.part import Part

Train = Callable[["Member"], list[EpochRecord]]
"""Trains the next epoch of one member."""


class Member(Standing):
    """A trial in a group: a `Run` whose steps its group takes.

    `row` (width,) holds its trainable numbers, `others` the rest of its model's tensors by name, `state` the task's.
    While a part trains, these are views of the part's matrices. Members of equal `trajectory` at the same step are the
    same but for where they end: one of them trains, and the others are its `followers`. `acted_at` is the
    step of the run whose actions have fired last.
    """

    def __init__(self, program: Program, recipe: Recipe, goal: Goal, train: Train) -> None:
        super().__init__(recipe, goal, program.terms, program.device)
        self.program, self._train = program, train
        with undisturbed(self.device):
            seed_generators(self.device, "weights", recipe.seed)
            model = build_model(program.task, recipe).to(self.device)
            self.state = copied(self.device, program.task.state())
        rate, options = recipe.learning_rate, recipe.optimizer_kwargs
        optimizer = optimizers.build(recipe.optimizer, model, rate, options, recipe.lr_multipliers)
        properties = program.task.properties
        self.planner = Planner(recipe, optimizer, goal, program.terms, properties, program.steps_per_epoch)
        self.row = program.layout.row(model, self.device)
        self.others = program.others_of(model)
        self.update: Update = update_for(recipe, self.planner.moved, self.row, program.layout, model, optimizer)
        self.sums = Sums()
        self.seconds = 0.0
        self.part: Part | None = None
        self.trajectory = trajectory_of(recipe, program.steps_per_epoch)
        self.followers: list[Member] = []
        self._leader: Member | None = None
        self.acted_at = -1
        self._plan: Plan | None = None
        self._step = 0

    @property
    def step_number(self) -> int:
        """Steps done of the epoch under way; those of a follower are done at the epoch's end, all at once."""
        return self.part.step_number if self.part is not None and self.part.trains(self) else self._step

    @step_number.setter
    def step_number(self, step: int) -> None:
        self._step = step

    def epoch(self) -> list[EpochRecord]:
        """Train the next epoch, as a group of one; gives one record."""
        return self._train(self)

    def planned(self) -> Plan:
        """The plan of the epoch under way, from its first step on."""
        if self._plan is None:
            self.planner.load_state_dict(self.planner.state_dict())  # as it was at the epoch's beginning
            self._plan = self.planner.epoch(self.epochs_done, self.records[-1].values if self.records else None)
        return self._plan

    def follow(self, leader: Member) -> None:
        """Stand where `leader` does, which has just trained the epoch that this member would have trained alike."""
        self._leader = leader
        self.row, self.others, self.state = leader.row, leader.others, leader.state
        self.update.take_over(leader.update)
        self.series.take_over(leader.series)
        self.trace.take_over(leader.trace)
        self.seconds = leader.seconds
        self.planned()

    def end_epoch(self, sums: Sums, validated: Mapping[str, float], rate: float) -> EpochRecord:
        """Take an epoch that is trained and validated; `sums` are those of its steps, `rate` the last step's."""
        number, task = self.epochs_done + 1, self.program.task
        values = {**sums.averages("train", task), **validated}
        record = EpochRecord(
            epoch=number,
            steps=number * self.program.steps_per_epoch,
            values=values,
            learning_rate=rate,
            gradient_norm=sums.mean_norm(),
            seconds=self.seconds,
            notes=self.planner.end_epoch(number, values),
        )
        self.trace.flush()
        self._step, self.seconds, self.sums, self._plan = 0, 0.0, Sums(), None
        self.judge(record)
        self._leader = None
        return record

    def _keep(self, epoch: int) -> None:
        leader = self._leader
        if leader is not None and leader.kept is not None and leader.kept_epoch == epoch:
            self.kept, self.state_kept, self.kept_epoch = leader.kept, leader.state_kept, epoch
        else:
            super()._keep(epoch)

    def weights_now(self) -> dict[str, Tensor]:
        """A copy of the tensors of the model's `state_dict`, on the model's device."""
        tensors = self.tensors()
        return {key: tensors[name].detach().clone() for key, name in self.program.state_names().items()}

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, sharing memory with the row and the `others`."""
        views = self.program.layout.views(self.row.unsqueeze(0))
        return {**{name: view[0] for name, view in views.items()}, **self.others}

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on exactly from here, on the CPU; waits for the end of a step under way.

        Between epochs nothing is copied that lies there, so that members that share a training are stored as one: it
        is good until the next epoch begins.
        """
        with self._between_steps():
            training = self.part is not None and self.part.trains(self)
            if self.part is not None and training:
                self.part.write_back(self)
            taken = snapshot if training else borrowed
            return self.books() | {
                "kept": borrowed(self.kept),  # is replaced, never changed
                "kept_state": borrowed(self.state_kept),
                "step": self.step_number,
                "seconds": self.seconds,
                "row": taken(self.row),
                "others": taken(self.others),
                "state": taken(self.state),
                "update": taken(self.update.state_dict()),
                "planner": self.planner.state_dict(),
                "sums": snapshot(self.sums.state()),
            }

    def _between_steps(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.part is None else self.part.lock

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()` of the same recipe, taken on any device; to be called before the first step."""
        self.restore_books(state)
        if state["row"].shape != self.row.shape:
            raise ValueError(f"{self.row.numel()} trainable numbers, not {state['row'].numel()}")
        self.row.copy_(state["row"])
        self.others = copied(self.device, state["others"])
        self.state = copied(self.device, state["state"])
        self.update.load_state_dict(state["update"])
        self.planner.load_state_dict(state["planner"])
        self.sums = Sums.restore(state["sums"], self.device)
        self._step, self.seconds, self._plan = state["step"], state["seconds"], None
