"""Trials in groups for the tests: small tasks, groups trained as parts of any size, and the same trials alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from resuming import disturb
from torch import Tensor, nn

from tuner.probe import probe_task
from tuner.recipe import Recipe
from tuner.tasks import Batch, Data, Mean, Samples, Task, bundled
from tuner.tasks.base import mapped
from tuner.training.checkpoints import load_checkpoint, save_checkpoint
from tuner.training.fused.member import Member
from tuner.training.fused.part import Part
from tuner.training.fused.training import FusedTraining
from tuner.training.plain import PlainRun
from tuner.training.run import Goal
from tuner.training.trainer import Trainer, train

CPU = torch.device("cpu")

SMALL: dict[str, dict[str, Any]] = {
    "digits": {"batch_size": 16, "model": {"channels": 8, "timesteps": 2, "dropout": 0.25}},
    "denoise": {"batch_size": 4, "model": {"channels": 4}, "data": {"sources": 6, "clip_length": 64}},
    "arc": {
        "batch_size": 8,
        "model": {"head_dim": 8, "decoder_layers": 1, "d_ff": 32, "dropout": 0.1},
        "data": {"puzzles": 16, "pairs": 1},
    },
    "picture": {"batch_size": 256, "model": {"hidden": 32, "frequencies": 2}, "data": {"size": 40}},
    "colors": {"batch_size": 64, "model": {"hidden": 16}, "data": {"data_fraction": 0.7}},
}
"""Options of the bundled tasks that train in no time."""

SAMPLES = {"digits": 32, "denoise": 8, "arc": 16, "picture": 512, "colors": 128}
"""How many samples they are cut to, for the same reason: two batches. They validate on half as many."""

CUT: dict[str, Data] = {}
"""What they are cut to, by task and options."""


class Regression(Task):
    """Numbers from four features: a model without random numbers, two loss terms, 5 batches of 8."""

    model_options: ClassVar[Mapping[str, Any]] = {}
    samples: ClassVar[int] = 40

    def data(self, options: Mapping[str, Any]) -> Data:
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(2 * self.samples, 4, generator=generator)
        y = (x @ torch.tensor([1.0, -2.0, 0.5, 0.0])).tanh() + 0.1 * torch.randn(len(x), generator=generator)
        return Data(Samples(x[: self.samples], y[: self.samples]), Samples(x[self.samples :], y[self.samples :]))

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 1), nn.Flatten(0))

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        error = output - batch.targets
        return {"mse": error**2, "l1": error.abs()}


class Matrices(Regression):
    """Every parameter a matrix, as Muon asks for."""

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        layers = [nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Identity(), nn.Linear(6, 1, bias=False)]
        return nn.Sequential(*layers, nn.Flatten(0))


class Lively(Regression):
    """With all that a task may do beside: a property and phases in its batches, state, actions, traces, BatchNorm."""

    data_options: ClassVar[Mapping[str, Any]] = {"noise": 0.0}
    properties: ClassVar[tuple[str, ...]] = ("noise",)
    actions: ClassVar[tuple[str, ...]] = ("mark", "shake")
    phases: ClassVar[tuple[str, ...]] = ("", "turned")

    def build_model(self, options: Mapping[str, Any]) -> nn.Module:
        layers = [nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1)]
        return nn.Sequential(*layers, nn.Flatten(0))

    def batch(self, data: Samples, index: Tensor, properties: Mapping[str, Any], generator: torch.Generator) -> Batch:
        rows = data.rows(index)
        drawn = torch.randn(rows.inputs.shape, generator=generator).to(rows.inputs)
        turned = -1.0 if properties["phase"] == "turned" else 1.0
        return Batch(rows.inputs + properties["noise"] * drawn, turned * rows.targets)

    def losses(self, output: Tensor, batch: Batch, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = super().losses(output, batch, state)
        return {**found, "drift": (1 + state["marks"]) * (output.mean() - state["mean"]).square()}

    def metrics(self, output: Tensor, batch: Batch) -> dict[str, Mean]:
        near = (output - batch.targets).abs() < 0.5
        return {"close": Mean.of(near), "high": Mean.of(near, where=batch.targets > 0.5)}

    def derived(self, averages: Mapping[str, float]) -> dict[str, float]:
        return {"ratio": averages["mse"] / averages["l1"]}

    def state(self) -> dict[str, Tensor]:
        return {"marks": torch.zeros(()), "mean": torch.zeros(())}

    def on_action(self, name: str, model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if name == "shake":
            model[3].weight.mul_(1 + torch.rand(6).to(model[3].weight))  # type: ignore[index]
            return {}
        return {"marks": state["marks"] + 1, "mean": model[3].bias[0]}  # type: ignore[index]

    def trace(self, model: nn.Module) -> dict[str, Tensor]:
        return {"weight": model[3].weight}  # type: ignore[index]


def recipe_with(**values: Any) -> Recipe:
    """A recipe for `Regression`; what is not said is as steady and short as it can be."""
    base = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "loss": "mse", "scheduler": None}
    if "loss_weights" in values:
        base["loss"] = None
    return Recipe(**{**base, **values}).with_defaults()  # type: ignore[arg-type]


def small(name: str, **changed: Any) -> tuple[Task, Recipe]:
    """A bundled task, its data cut short, and a recipe of two epochs for it."""
    kind = bundled()[name]

    class Short(kind):  # type: ignore[misc, valid-type]
        def data(self, options: Mapping[str, Any]) -> Data:
            key = f"{name} {options}"
            if key not in CUT:
                found, count = super().data(options), SAMPLES[name]
                CUT[key] = Data(train=cut(found.train, count), validation=cut(found.validation, count // 2))
            return CUT[key]

    task: Task = Short()
    options = SMALL[name]
    sections = {
        "model": {**task.model_options, **options.get("model", {}), **changed.pop("model", {})},
        "data": {**task.data_options, **options.get("data", {}), **changed.pop("data", {})},
    }
    fields = {"epochs": 2, "learning_rate": 3e-3, "scheduler": None, "batch_size": options["batch_size"], **changed}
    return task, Recipe(**fields, **sections).with_defaults()


def cut(source: Any, count: int) -> Samples:
    """Samples from all over a source."""
    index = torch.linspace(0, len(source) - 1, min(count, len(source))).long()
    batch = source.rows(index)
    return Samples(batch.inputs, batch.targets)


def trainer_of(task: Task, recipe: Recipe, goal: Goal | None = None) -> Trainer:
    terms = probe_task(task, recipe).terms
    return Trainer(task, goal or Goal(f"val_{terms[0]}"), terms, CPU)


class Group:
    """Trials that train fused: `most` to a part (None: as fast as can be), on as many `threads` as are given.

    What another group found out of their shape, it knows too.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        goal: Goal | None = None,
        most: int | None = None,
        threads: int = 1,
        like: Group | None = None,
    ) -> None:
        torch.set_num_threads(threads)
        self.training = FusedTraining(like.training.trainer if like else trainer_of(task, recipe, goal), most)
        if like:
            self.training._programs = like.training._programs

    def start(self, *recipes: Recipe) -> list[Member]:
        return [self.training.start(recipe) for recipe in recipes]

    def train(self, members: Sequence[Member], epochs: int = -1) -> list[Member]:
        """Train so many epochs of each, or all that it has; an error of any is raised."""
        while epochs and not all(member.done for member in members):
            for ended in self.training.epoch([member for member in members if not member.done]):
                if isinstance(ended, BaseException):
                    raise ended
            epochs -= 1
        return list(members)

    def cut_off(self, members: Sequence[Member], steps: int) -> None:
        """Train so many steps of an epoch, and stop there."""
        for part in self.training._cut([member for member in members if not member.done], {}):
            part.build()
            part.take_steps(steps)
            part.release()

    def through_a_file(self, members: Sequence[Member], folder: Path) -> list[Member]:
        """Fresh members where these stand; the generators stand elsewhere, as in another process."""
        save_checkpoint(folder / "state", {number: member.state_dict() for number, member in enumerate(members)})
        states = load_checkpoint(folder / "state")
        disturb(len(members))
        fresh = self.start(*(member.recipe for member in members))
        for number, member in enumerate(fresh):
            member.load_state_dict(states[number])
        return fresh


def trained(task: Task, *recipes: Recipe, goal: Goal | None = None, most: int | None = None) -> list[Member]:
    """Members of one group, trained to their ends."""
    group = Group(task, recipes[0], goal, most)
    return group.train(group.start(*recipes))


def trained_in(parts: Iterable[Sequence[Member]]) -> None:
    """An epoch of members cut into these very parts, one after the other."""
    for members in parts:
        Part(members).train()


def alone(task: Task, recipe: Recipe, goal: Goal | None = None) -> Member:
    """A member that never had another beside it."""
    return trained(task, recipe, goal=goal)[0]


def plain(task: Task, recipe: Recipe, goal: Goal | None = None) -> PlainRun:
    """The same trial by torch itself, one model and one step at a time."""
    run = trainer_of(task, recipe, goal).start(recipe)
    train(run)
    return run


def shown(run: Member | PlainRun) -> dict[str, Any]:
    """All that a trial has to show, the wall time left out."""
    result = run.result()
    return {
        "records": [{key: value for key, value in vars(record).items() if key != "seconds"} for record in run.records],
        "result": {key: value for key, value in result.summary().items() if key != "seconds"},
        "value": [result.value, result.reason, result.diverged, run.done],
        "series": run.series.array(),
        "trace": run.trace.arrays(),
        "weights": run.weights_now(),
        "kept": run.kept_weights(),
        "state": dict(run.state),
    }


def held(member: Member) -> dict[str, Any]:
    """All that a member shows, and all that it holds."""
    return shown(member) | {"others": member.others, "update": member.update.state_dict(), "row": member.row}


def assert_close(one: Any, two: Any, rel: float = 1e-5, abs: float = 1e-6, place: str = "") -> None:
    """Two nested values of one form agree; numbers and tensors to within rounding, relative to the largest entry."""
    if isinstance(one, Mapping):
        assert one.keys() == two.keys(), place
        for key in one:
            assert_close(one[key], two[key], rel, abs, f"{place}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), place
        for number, pair in enumerate(zip(one, two, strict=True)):
            assert_close(*pair, rel, abs, f"{place}[{number}]")
    elif isinstance(one, (str, bool, type(None))):
        assert one == two, place
    else:
        ours, theirs = (torch.as_tensor(value).double() for value in (one, two))
        assert ours.shape == theirs.shape, place
        bound = abs + rel * float(theirs.abs().max()) if theirs.numel() else 0.0
        far = (ours - theirs).abs().max() if theirs.numel() else torch.tensor(0.0)
        assert torch.equal(ours.isnan(), theirs.isnan()) and not far > bound, f"{place}: {far} apart, {bound} allowed"


def assert_like_plain(task: Callable[[], Task], *recipes: Recipe, goal: Goal | None = None, **near: float) -> None:
    """Every one of a group's members shows what the same trial shows that torch trains."""
    for member in trained(task(), *recipes, goal=goal):
        assert_close(shown(member), shown(plain(task(), member.recipe, goal)), **near)


def in_double(task: Task, traces: bool = False) -> Task:
    """The task in float64, whose rounding does not hide anything."""
    kind: Any = type(task)

    class Double(kind):  # type: ignore[misc]
        def data(self, options: Mapping[str, Any]) -> Data:
            found = super().data(options)
            return Data(
                *(Samples(doubled(part.inputs), doubled(part.targets)) for part in (found.train, found.validation))
            )

        def build_model(self, options: Mapping[str, Any]) -> nn.Module:
            model: nn.Module = super().build_model(options).double()
            return model

        def state(self) -> dict[str, Tensor]:
            found: dict[str, Tensor] = doubled(super().state())
            return found

        def trace(self, model: nn.Module) -> dict[str, Tensor]:
            return super().trace(model) if traces else {}

    found: Task = Double()
    return found


def doubled(value: Any) -> Any:
    """A nested value, its floating-point tensors in float64."""
    return mapped(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor, value)
