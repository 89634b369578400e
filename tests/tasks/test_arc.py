"""The arc task: made puzzles, augmentation, net, loss and metrics, against rules and formulas written out here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy import stats
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from tuner.errors import UsageError
from tuner.objective import goal_of
from tuner.resolve import resolve
from tuner.search_space import build_space, find_target
from tuner.search_space.yaml_file import read_yaml
from tuner.tasks import Batch, Samples, load_task
from tuner.tasks.arc import Arc
from tuner.tasks.arc_puzzles.canvas import samples_of
from tuner.tasks.arc_puzzles.generate import make_puzzles
from tuner.tasks.arc_puzzles.puzzle import Pair, Puzzle
from tuner.training.trainer import Trainer, train

PAD = 10
OPTIONS = dict(Arc.model_options)
FAMILIES = ("recolour", "flip", "shift")
Grid = NDArray[np.int64]


def cropped(canvas: torch.Tensor | Grid) -> Grid:
    """The grid on a canvas."""
    cells = np.asarray(canvas)
    return cells[(cells != PAD).any(axis=1)][:, (cells != PAD).any(axis=0)]


def recolouring(pairs: Sequence[tuple[Grid, Grid]]) -> dict[int, int] | None:
    """The one-to-one colour mapping that makes every output of its input, or None."""
    if any(before.shape != after.shape for before, after in pairs):
        return None
    seen = {(int(a), int(b)) for before, after in pairs for a, b in zip(before.flat, after.flat, strict=True)}
    mapping = dict(seen)
    return mapping if len(mapping) == len(seen) == len(set(mapping.values())) else None


def shifted(grid: Grid, by: int, sideways: bool) -> Grid:
    """Rows, or columns, moved on by some places, those that leave put in front."""
    rows = list(grid.T if sideways else grid)
    moved = np.array(rows[-by:] + rows[:-by])
    return moved.T if sideways else moved


def rules_that_fit(family: str, pairs: Sequence[tuple[Grid, Grid]]) -> int:
    """How many rules of a family make every output of its input."""
    if family == "recolour":
        mapping = recolouring(pairs)
        return int(mapping is not None and any(a != b for a, b in mapping.items()))
    flips = [lambda grid: grid[::-1], lambda grid: grid[:, ::-1], lambda grid: grid[::-1, ::-1]]
    shifts = [lambda grid, way=way: shifted(grid, *way) for way in itertools.product((-2, -1, 1, 2), (False, True))]
    candidates = {"flip": flips, "shift": shifts}[family]
    return sum(all(np.array_equal(rule(before), after) for before, after in pairs) for rule in candidates)


def pairs_of(puzzle: Puzzle) -> list[tuple[Grid, Grid]]:
    return [(pair.input, pair.output) for pair in (*puzzle.train, *puzzle.test) if pair.output is not None]


def pairs_in(batch: Batch, row: int) -> list[tuple[Grid, Grid]]:
    """The pairs of one sample, the one to solve last."""
    befores = [*batch.inputs["context_in"][row], batch.inputs["test"][row]]
    afters = [*batch.inputs["context_out"][row], batch.targets["grid"][row]]
    both = zip(befores, afters, strict=True)
    return [(cropped(before), cropped(after)) for before, after in both if (before != PAD).any()]


def batch_of(count: int = 6, size: int = 7, seed: str = "test") -> Batch:
    return samples_of(make_puzzles(count, size, 3, seed), size, 3).rows(torch.arange(count))


# Made puzzles


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(6, 12), st.integers(1, 4))
def test_made_puzzles_obey_exactly_one_rule_of_their_family(seed: int, largest: int, pairs: int) -> None:
    puzzles = make_puzzles(3, largest, pairs, seed)
    assert tuple(puzzle.family for puzzle in puzzles) == FAMILIES
    for puzzle in puzzles:
        assert len(puzzle.train) == pairs
        assert rules_that_fit(puzzle.family, pairs_of(puzzle)) == 1
        for before, after in pairs_of(puzzle):
            assert before.shape == after.shape
            assert 6 <= min(before.shape) <= max(before.shape) <= largest
            assert not np.array_equal(before, after)
        shown = {int(color) for pair in puzzle.train for color in pair.input.flat}
        assert {int(color) for color in puzzle.test[0].input.flat} <= shown


def test_made_puzzles_are_a_function_of_their_seed_and_more_begin_with_the_same() -> None:
    first, again, more = (pairs_of(make_puzzles(count, 6, 2, "a")[2]) for count in (3, 3, 9))
    other = pairs_of(make_puzzles(3, 6, 2, "b")[2])
    assert np.array_equal(first, again)
    assert np.array_equal(first, more)
    assert not np.array_equal(first, other)


def test_data_without_a_folder() -> None:
    data = Arc().data({"puzzles": 30})
    assert isinstance(data.train, Samples)
    assert isinstance(data.validation, Samples)
    assert (len(data.train), len(data.validation)) == (30, 300)
    assert data.train.inputs["context_in"].shape == (30, 3, 6, 6)
    assert torch.bincount(data.validation.targets["family"]).tolist() == [100, 100, 100]
    tests = [{grid.numpy().tobytes() for grid in part.inputs["test"]} for part in (data.train, data.validation)]
    assert not tests[0] & tests[1]


def test_smaller_grids_lie_in_the_upper_left_corner_of_a_larger_canvas() -> None:
    data = Arc().data({"puzzles": 60, "size": 8, "pairs": 2})
    assert isinstance(data.train, Samples)
    canvases = data.train.inputs["test"]
    assert canvases.shape == (60, 8, 8)
    assert (canvases[:, :6, :6] != PAD).all()
    assert {len(cropped(canvas)) for canvas in canvases} == {6, 7, 8}


@pytest.mark.parametrize("options", [{"size": 5}, {"size": 31}, {"pairs": 0}, {"pairs": 11}, {"puzzles": 0}])
def test_data_options_out_of_range_are_named(options: dict) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(UsageError, match=rf"recipe\.data\.{name}: must be from .* \(got {value}\)"):
        Arc().data(options)


# Augmentation


def orientations(grid: Grid) -> Iterator[Grid]:
    """The eight ways to turn and mirror a grid."""
    for quarter_turns, mirrored in itertools.product(range(4), (False, True)):
        yield np.rot90(np.fliplr(grid) if mirrored else grid, quarter_turns)


def ragged_puzzle(rng: np.random.Generator, pairs: int) -> Puzzle:
    """A puzzle of any pairs at all, each grid of a size of its own."""
    grids = [rng.integers(10, size=rng.integers(1, 8, size=2)) for _ in range(2 * pairs + 2)]
    made = tuple(Pair(before, after) for before, after in zip(grids[::2], grids[1::2], strict=True))
    return Puzzle("ragged", made[:-1], made[-1:])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_augmentation_changes_all_grids_of_a_puzzle_alike(seed: int, pairs: int) -> None:
    """Some order of the pairs, one of eight orientations and one exchange of colours gives the old puzzle."""
    data = samples_of([ragged_puzzle(np.random.default_rng(seed), pairs)], 8, 3)
    before = pairs_in(data.rows(torch.tensor([0])), 0)
    after = pairs_in(Arc().batch(data, torch.tensor([0]), {}, torch.Generator().manual_seed(seed)), 0)
    turned = zip(
        *([tuple(both) for both in zip(*map(orientations, pair), strict=True)] for pair in before), strict=True
    )
    new = [grid for pair in after for grid in pair]
    fits = []
    for way in turned:
        for order in itertools.permutations(way):
            mapping = recolouring(list(zip([grid for pair in order for grid in pair], new, strict=True)))
            fits.append(mapping is not None and mapping.get(0, 0) == 0)
    assert any(fits)


def test_augmentation_keeps_the_family_of_the_rule_and_varies_everything() -> None:
    data = samples_of(make_puzzles(90, 8, 3, "kept"), 8, 3)
    batch = Arc().batch(data, torch.arange(90), {}, torch.Generator().manual_seed(0))
    for row in range(90):
        assert rules_that_fit(FAMILIES[row % 3], pairs_in(batch, row)) == 1
    same = (batch.inputs["test"] == data.inputs["test"]).flatten(1).all(dim=1)
    assert same.float().mean() < 0.1


def test_augmentation_draws_from_the_generator_alone() -> None:
    data = samples_of(make_puzzles(12, 6, 3, "drawn"), 6, 3)
    batches = []
    for global_seed, seed in ((0, 5), (1, 5), (0, 6)):
        torch.manual_seed(global_seed)
        batches.append(Arc().batch(data, torch.arange(12), {}, torch.Generator().manual_seed(seed)))
        assert torch.initial_seed() == global_seed
    first, again, other = (batch.inputs["context_in"] for batch in batches)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# Net


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return Arc().build_model(OPTIONS).eval()


def test_the_width_follows_from_heads_and_their_width() -> None:
    net = Arc().build_model({**OPTIONS, "heads": 3, "head_dim": 10, "d_ff": 30})
    assert net.d_model == 30
    assert net.readout.weight.shape == (11, 30)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"heads": 4, "head_dim": 32, "d_ff": 127},
            "d_ff must be at least d_model = heads [*] head_dim = 128, not 127",
        ),
        ({"heads": 0}, "heads must be at least 1, not 0"),
        ({"encoder_layers": 0}, "encoder_layers"),
        ({"decoder_layers": 0}, "decoder_layers"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_options_are_refused(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Arc().build_model({**OPTIONS, **options})


def test_the_space_calls_infeasible_what_makes_no_model() -> None:
    space = build_space(find_target("arc"), "full")
    for heads, head_dim, d_ff in itertools.product((1, 8), (8, 32), (64, 256)):
        values = {"model.heads": heads, "model.head_dim": head_dim, "model.d_ff": d_ff}
        recipe, violated = space.recipe_for(space.default_values()[0] | values)
        if violated is None:
            Arc().build_model(recipe.model)
        assert (violated is None) == (d_ff >= heads * head_dim)


def test_no_prediction_depends_on_the_target(model: torch.nn.Module) -> None:
    batch, task = batch_of(), Arc()
    blank = Batch(batch.inputs, {name: torch.zeros_like(entry) for name, entry in batch.targets.items()})
    for other in (blank, Batch(batch.inputs, None)):
        assert torch.equal(task.forward(model, batch), task.forward(model, other))
    changed = samples_of([replaced_answer(puzzle) for puzzle in make_puzzles(6, 7, 3, "test")], 7, 3).rows(
        torch.arange(6)
    )
    assert not torch.equal(batch.targets["grid"], changed.targets["grid"])
    assert torch.equal(task.predict(model, batch.inputs), task.predict(model, changed.inputs))


def replaced_answer(puzzle: Puzzle) -> Puzzle:
    return Puzzle(puzzle.name, puzzle.train, (Pair(puzzle.test[0].input, puzzle.test[0].input * 0),), puzzle.family)


def test_predictions_depend_on_the_pairs_shown_but_not_on_their_order(model: torch.nn.Module) -> None:
    inputs = batch_of().inputs
    order = torch.tensor([2, 0, 1])
    turned = {**inputs, **{name: inputs[name][:, order] for name in ("context_in", "context_out")}}
    torch.testing.assert_close(model(turned), model(inputs), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model({**inputs, "context_out": inputs["context_in"]}), model(inputs), atol=1e-2)


def test_pairs_that_are_not_there_change_nothing(model: torch.nn.Module) -> None:
    puzzles = make_puzzles(4, 6, 2, "few")
    two, five = (model(samples_of(puzzles, 6, pairs).inputs) for pairs in (2, 5))
    torch.testing.assert_close(two, five, rtol=1e-4, atol=1e-4)


def test_several_nets_as_one_give_the_gradients_of_each_alone() -> None:
    task = Arc()
    models = [task.build_model(OPTIONS) for _ in range(3)]
    batches = [batch_of(4, 6, f"member {i}") for i in range(3)]
    inputs, targets = (
        {name: torch.stack([getattr(batch, part)[name] for batch in batches]) for name in getattr(batches[0], part)}
        for part in ("inputs", "targets")
    )

    def loss(parameters: dict, inputs: dict, targets: dict) -> tuple[torch.Tensor, torch.Tensor]:
        batch = Batch(inputs, targets)
        output = functional_call(models[0], parameters, (inputs,))
        return task.losses(output, batch, {})["cross_entropy"].mean(), task.metrics(output, batch)[
            "cell_accuracy"
        ].total

    gradients, totals = vmap(grad(loss, has_aux=True))(stack_module_state(models)[0], inputs, targets)
    for i, (net, batch) in enumerate(zip(models, batches, strict=True)):
        output = net(batch.inputs)
        task.losses(output, batch, {})["cross_entropy"].mean().backward()
        assert totals[i] == task.metrics(output, batch)["cell_accuracy"].total
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(gradients[name][i], parameter.grad, rtol=1e-3, atol=1e-5)


# Loss and metrics


def test_the_loss_is_the_mean_cross_entropy_of_a_samples_own_cells() -> None:
    batch = batch_of(9, 9)
    logits = torch.randn(9, 9, 9, 11, generator=torch.Generator().manual_seed(0))
    found = Arc().losses(logits, batch, {})["cross_entropy"]
    for row, grid in enumerate(batch.targets["grid"]):
        rows, columns = cropped(grid).shape
        expected = F.cross_entropy(logits[row, :rows, :columns].flatten(0, 1), grid[:rows, :columns].flatten())
        torch.testing.assert_close(found[row], expected)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_what_a_net_says_of_padding_has_no_part_in_loss_and_metrics(seed: int) -> None:
    batch, task, generator = batch_of(6, 9), Arc(), torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 9, 9, 11, generator=generator)
    padding = (batch.targets["grid"] == PAD)[..., None]
    assert padding.any()
    other = torch.where(padding, 9 * torch.randn(6, 9, 9, 11, generator=generator), logits)
    for measure in (lambda out: task.losses(out, batch, {}), lambda out: task.metrics(out, batch)):
        first, second = measure(logits), measure(other)
        assert all(str(first[name]) == str(second[name]) for name in first)


def averages(output: torch.Tensor, batch: Batch) -> dict[str, float]:
    """The metrics that would be recorded."""
    found = Arc().metrics(output, batch)
    return {name: float(mean.total) / int(mean.number) for name, mean in found.items() if int(mean.number)}


def test_metrics_and_those_of_copying_against_numpy() -> None:
    batch = batch_of(12, 8)
    answers = batch.targets["grid"].clone()
    answers[:6, 0, :3] = (answers[:6, 0, :3] + 1) % 10  # three cells wrong in each of the first six
    found = averages(F.one_hot(answers.clamp(max=9), 11).float(), batch)
    truth = [cropped(grid) for grid in batch.targets["grid"]]
    copies = [cropped(grid) for grid in batch.inputs["test"]]
    for among, suffix in ((range(12), ""), *((range(i, 12, 3), f"_{name}") for i, name in enumerate(FAMILIES))):
        cells = sum(truth[i].size for i in among)
        assert found[f"cell_accuracy{suffix}"] == pytest.approx(1 - 3 * sum(i < 6 for i in among) / cells)
        assert found[f"solved{suffix}"] == pytest.approx(0.5)
        copied = sum((truth[i] == copies[i]).sum() for i in among) / cells
        assert found[f"copy_cell_accuracy{suffix}"] == pytest.approx(copied)
        assert found[f"copy_solved{suffix}"] == 0


def test_copying_solves_what_stays_as_it_is_and_only_that() -> None:
    """Of a larger output the copy lacks cells; of a smaller one only the cells that it has are asked for."""
    grid, wide = np.array([[1, 2], [3, 4]]), np.array([[1, 2, 2], [3, 4, 4]])
    puzzles = [Puzzle("x", (Pair(grid, grid),), (Pair(a, b),)) for a, b in ((grid, grid), (grid, wide), (wide, grid))]
    batch = samples_of(puzzles, 4, 1).rows(torch.arange(3))
    found = averages(torch.zeros(3, 4, 4, 11), batch)
    assert found["copy_cell_accuracy"] == pytest.approx((4 + 4 + 4) / (4 + 6 + 4))
    assert found["copy_solved"] == pytest.approx(2 / 3)
    assert set(found) == {"cell_accuracy", "solved", "copy_cell_accuracy", "copy_solved"}


def test_a_grid_is_never_answered_with_padding() -> None:
    batch = batch_of(3, 6)
    logits = F.one_hot(batch.targets["grid"], 11).float()
    logits[..., PAD] = 100.0
    assert averages(logits, batch)["solved"] == 1


# Learning


def gains_over_copying(model: torch.nn.Module, count: int) -> dict[str, float]:
    """By family the lower end of the 95 % t interval of a puzzle's gain in cell accuracy over copying its input.

    On freshly made puzzles, of which none was trained or validated on.
    """
    lower = {}
    model.eval()
    for family in FAMILIES:
        puzzles = [puzzle for puzzle in make_puzzles(3 * count, 6, 3, "fresh") if puzzle.family == family]
        batch = samples_of(puzzles, 6, 3).rows(torch.arange(count))
        with torch.no_grad():
            answers = torch.cat([model(samples_of(puzzles[i : i + 50], 6, 3).inputs) for i in range(0, count, 50)])
        grid = batch.targets["grid"]
        right = (answers[..., :10].argmax(dim=-1) == grid).flatten(1).float().mean(dim=1)
        copied = (batch.inputs["test"] == grid).flatten(1).float().mean(dim=1)
        gains = (right - copied).numpy()
        lower[family] = float(stats.t.interval(0.95, count - 1, gains.mean(), stats.sem(gains))[0])
        print(
            f"{family}: {right.mean():.3f} of cells right, copying {copied.mean():.3f}, gain above {lower[family]:.3f}"
        )
    return lower


def trained(values: dict) -> torch.nn.Module:
    """A net trained by the default recipe of mode `quick` with `values` changed, as its best epoch left it."""
    task = load_task("arc")
    space, probe = resolve(build_space(find_target("arc"), "quick"), task)
    recipe = space.recipe_for(space.default_values()[0])[0].with_values(values)
    run = Trainer(task, goal_of(space), probe.terms, torch.device("cpu")).start(recipe)
    train(run)
    run.model.load_state_dict(run.kept_weights())
    return run.model


@pytest.mark.slow
def test_a_short_training_already_beats_copying_in_every_family() -> None:
    model = trained({"epochs": 4, "model.heads": 3, "learning_rate": 6e-3})
    assert min(gains_over_copying(model, 150).values()) > 0


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_quick_recipe_beats_copying_by_far_for_other_seeds(seed: int) -> None:
    gains = gains_over_copying(trained({"seed": seed, "data_seed": seed, "dropout_seed": seed}), 300)
    assert gains["recolour"] > 0.5
    assert gains["flip"] > 0.5
    assert gains["shift"] > 0.2


@pytest.mark.long
def test_quick_arc_finds_a_net_that_beats_copying(own_folder: Path, tuner) -> None:
    assert tuner("quick", "arc", "--quiet").code == 0
    (weights,) = Path("studies/arc-quick").glob("trial-*.safetensors")
    model = Arc().build_model(read_yaml(weights.with_suffix(".yaml"))["recipe"]["model"])
    model.load_state_dict(load_file(weights))
    assert min(gains_over_copying(model, 300).values()) > 0.3
