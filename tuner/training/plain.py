"""PlainRun: one model, one torch optimizer, one step at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from tuner import optimizers
from tuner.knobs import Knobs, knobs_of, properties_at
from tuner.optimizers.options import has_option, set_learning_rate, set_option
from tuner.probe import build_model
from tuner.recipe import Recipe, loss_weights
from tuner.tasks.base import Batch, Data, Task
from tuner.training.batches import steps_per_epoch, training_batches
from tuner.training.gradients import clip_gradients
from tuner.training.precision import forward_in, matrices_in
from tuner.training.randomness import seed_generators, undisturbed
from tuner.training.run import EpochRecord, Goal
from tuner.training.scheduling import end_epoch, rate_of, rescale, stepper_over
from tuner.training.scoring import scored, weighted
from tuner.training.standing import Standing, copied
from tuner.training.states import model_state, restore_model, restore_optimizer, snapshot
from tuner.training.sums import Sums
from tuner.training.weights import copy_of


class PlainRun(Standing):
    """One recipe in training on one device.

    `data` lies where `training.device.place` put it; `terms` are the task's loss terms; `check_stop` is called
    after every step and may raise to end the run at a point where nothing is half done. `knobs` are the recipe's, and
    may be replaced before the first step; `base_rate` is the learning rate that a scheduler goes out from; `loss` is
    the one loss term that counts, None where all do by their `weights`. Where settings are turned, `recipe` is as it
    is now, and `given` as it was.
    """

    def __init__(
        self,
        task: Task,
        data: Data,
        recipe: Recipe,
        goal: Goal,
        terms: tuple[str, ...],
        device: torch.device,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(recipe, goal, terms, device)
        self.task, self.data, self.given = task, data, recipe
        with undisturbed(device):
            seed_generators(device, "weights", recipe.seed)
            self.model = build_model(task, recipe).to(device)
            self.state = copied(device, task.state())
        self.optimizer = optimizers.build(
            recipe.optimizer, self.model, recipe.learning_rate, recipe.optimizer_kwargs, recipe.lr_multipliers
        )
        self.steps_per_epoch = steps_per_epoch(data.train, recipe.batch_size)
        self.knobs: Knobs = knobs_of(recipe, recipe.epochs * self.steps_per_epoch, terms, task.properties)
        self.base_rate = optimizers.rate_for(recipe.optimizer, recipe.learning_rate)
        self.stepper = stepper_over(self.optimizer, recipe, goal, terms, self.steps_per_epoch)
        self.weights, self.clip = loss_weights(recipe, terms), recipe.gradient_clip
        self.loss: str | None = None
        self.check_stop = check_stop
        self._before, self._step, self._seen, self._fired = 0, 0, 0, -1
        self._seconds, self._rate = 0.0, self.learning_rate
        self._batches: Iterator[Batch] | None = None
        self._sums = Sums()

    @property
    def learning_rate(self) -> float:
        """The rate of the first parameter group, which is the recipe's unless all parameters have multipliers."""
        return rate_of(self.optimizer)

    @property
    def steps_done(self) -> int:
        """Steps trained, over the whole run."""
        return self._before + self._step

    @property
    def position(self) -> tuple[int, int]:
        """Steps and whole epochs trained."""
        return self.steps_done, self.epochs_done

    def renew_batches(self) -> None:
        """Take the next batch anew, as the recipe and its data options have it now."""
        self._batches = None

    @property
    def epoch_is_trained(self) -> bool:
        """Whether the epoch's last step is done, so that what is left of it is validation."""
        return self._seen >= len(self.data.train)  # type: ignore[arg-type]

    def step(self) -> None:
        """Train on the next batch; the first step of an epoch draws its order.

        Seeds the global generators, as everything random depends on the recipe's seeds, the epoch and the step alone.
        """
        started = time.perf_counter()
        self._turn_knobs(self.steps_done)
        if self._batches is None:
            self._batches = training_batches(
                self.task,
                self.data.train,
                self.recipe,
                self.epochs_done,
                self.device,
                self._properties,
                self._step,
                self._seen,
            )
        batch = next(self._batches)
        self.model.train()
        with matrices_in(self.recipe.precision, self.device):
            self.optimizer.step(lambda: self._loss_and_gradients(batch))  # type: ignore[arg-type, return-value]
        self._step, self._rate = self._step + 1, self.learning_rate
        self._seen += self.recipe.batch_size
        self.trace.take(self.steps_done, self.task, self.model)
        if self.stepper is not None:
            self.stepper.after_step(self.steps_done, self.records[-1].values if self.records else None)
        self._seconds += time.perf_counter() - started

    def _turn_knobs(self, step: int) -> None:
        """Fire the actions of a step and write its scheduled values where they are read."""
        if self._fired < step:  # a step that failed is done again, but for these
            for action in self.knobs.actions(step):
                self.act(action)
            self._fired = step
        self.set_values()

    def act(self, action: str) -> None:
        """Take one of the task's actions before the next step."""
        seed_generators(self.device, "action", self.recipe.data_seed, self.steps_done, action)
        self.model.train()  # whatever came before, be it a validation or an interruption
        with torch.no_grad():
            changed = self.task.on_action(action, self.model, self.state)
        self.state = self.state | copied(self.device, changed)  # copies, as a parameter itself would go on changing

    def set_values(self) -> None:
        """Write the next step's scheduled values where they are read; a `gradient_clip` of 0 is none."""
        for path, value in self.knobs.at(self.steps_done).items():
            section, _, name = path.partition(".")
            if path == "learning_rate":
                self._set_rate(value)
            elif section == "optimizer_kwargs" and has_option(self.optimizer, name):
                set_option(self.optimizer, name, value)
            elif section == "loss_weights":
                self.weights[name] = value
            elif path == "gradient_clip":
                self.clip = value or None

    def _set_rate(self, rate: float) -> None:
        """Train at a rate, or where there is a scheduler let it go on as if it had gone out from this one."""
        if self.stepper is None:
            set_learning_rate(self.optimizer, rate)
        elif rate != self.base_rate:
            rescale(self.optimizer, self.stepper, rate / self.base_rate)
        self.base_rate = rate

    def _properties(self, step: int) -> dict[str, Any]:
        """The task's properties at a step of this epoch."""
        number = self._before + step
        return properties_at(self.knobs, self.knobs.at(number), self.recipe.data, number)

    def _loss_and_gradients(self, batch: Batch) -> Tensor:
        """The closure that torch's optimizers call, some (LBFGS) several times a step: same dropout each time."""
        first = self._sums.steps == self._step
        seed_generators(self.device, "dropout", self.recipe.dropout_seed, self.epochs_done, self._step)
        self.model.zero_grad(set_to_none=True)
        with forward_in(self.recipe.precision, self.device):
            output = self.task.forward(self.model, batch)
            terms = {name: term.mean() for name, term in self.task.losses(output, batch, self.state).items()}
            loss = weighted(terms, self.weights) if self.loss is None else terms[self.loss]
        loss.backward()  # type: ignore[no-untyped-call]
        norm = clip_gradients(self.model, self.clip)
        if first:
            self._sums.add(len(batch), loss, terms, self.task.metrics(output, batch), norm)
            self.series.add(torch.stack([term.detach() for term in (*terms.values(), loss)]), self.learning_rate)
        return loss

    def epoch(self) -> list[EpochRecord]:
        """Train to the end of the current epoch, validate, step the scheduler; gives one record.

        Raises whatever `check_stop` raises, between two steps or two batches of the validation. The global generators
        are left as they were.
        """
        with undisturbed(self.device):
            while not self.epoch_is_trained:
                self.step()
                self.check_stop()
            return [self._finish_epoch()]

    def _finish_epoch(self) -> EpochRecord:
        started = time.perf_counter()
        self.model.zero_grad(set_to_none=True)  # other runs may need the memory before this one's next step
        self.series.flush()
        self.trace.flush()
        values = self._sums.averages("train", self.task) | self._validate()
        notes = end_epoch(self.recipe, self.optimizer, self.stepper, self.epochs_done + 1, values)
        record = EpochRecord(
            epoch=self.epochs_done + 1,
            steps=self.steps_done,
            values=values,
            learning_rate=self._rate,
            gradient_norm=self._sums.mean_norm(),
            seconds=self._seconds + time.perf_counter() - started,
            notes=notes,
        )
        self._before, self._step, self._seen = self.steps_done, 0, 0
        self._seconds, self._batches, self._sums = 0.0, None, Sums()
        self.judge(record)
        return record

    def _validate(self) -> dict[str, float]:
        source, state = self.data.validation, self.state
        weights = self.weights if self.loss is None else {name: float(name == self.loss) for name in self.weights}
        sums = scored(self.task, self.model, source, self.recipe, weights, state, self.device, self.check_stop)
        return sums.averages("val", self.task)

    def weights_now(self) -> dict[str, Tensor]:
        """A copy of the tensors of the model's `state_dict`, on the model's device."""
        return copy_of(self.model)

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on exactly from here, on the CPU; what is random follows from the recipe's seeds.

        Shares no memory with the run.
        """
        return self.books() | {
            "kept": snapshot(self.kept),
            "kept_state": snapshot(self.state_kept),
            "before": self._before,
            "step": self._step,
            "seen": self._seen,
            "base_rate": self.base_rate,
            "seconds": self._seconds,
            "rate": self._rate,
            "model": model_state(self.model),
            "optimizer": snapshot(self.optimizer.state_dict()),
            "stepper": None if self.stepper is None else self.stepper.state_dict(),
            "stepper_span": None if self.stepper is None else self.stepper.span,
            "fired": self._fired,
            "sums": snapshot(self._sums.state()),
            "state": snapshot(self.state),
            "weights": dict(self.weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()` of the same recipe, on this run's device, wherever it was taken."""
        self.restore_books(state)
        restore_model(self.model, state["model"], self.device)
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.stepper is not None:
            self.stepper.load_state_dict(state["stepper"])
            self.stepper.span = state["stepper_span"]
        self._sums = Sums.restore(state["sums"], self.device)
        self.state = copied(self.device, state["state"])
        self.weights = dict(state["weights"])  # a clip that is scheduled is set before every step
        self._before, self._step, self._seen = state["before"], state["step"], state["seen"]
        self._fired = state["fired"]
        self.base_rate, self._seconds, self._rate = state["base_rate"], state["seconds"], state["rate"]
        self._batches = None
