"""The colors task: its grids, loss terms and weights written out a second way, its curriculum and its pictures."""

from __future__ import annotations

import colorsys
import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.func import functional_call, stack_module_state, vmap

from tuner.errors import UsageError
from tuner.search_space.file import bundled_folder
from tuner.tasks import Batch, Samples
from tuner.tasks.colors import (
    NAMED,
    PROBES,
    SEPARATION_EPS,
    ColorOutput,
    Colors,
    sampling_weights,
    separation,
    vividness,
)
from tuner.timeline import Timeline, read_csv

SIX = [(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1)]
"""Red, yellow, green, cyan, blue, magenta."""


def model_of(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return Colors().build_model(Colors.model_options).eval()


def train_data() -> Samples:
    return Colors().data({}).train


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(fraction: float, count: int, seed: int = 0, phase: str = "") -> torch.Tensor:
    """The colours of one batch."""
    properties = {"data_fraction": fraction, "phase": phase}
    return Colors().batch(train_data(), torch.arange(count) % 3600, properties, generator(seed)).inputs


# Data


def test_training_grid_is_hsv_in_the_standard_librarys_own_conversion() -> None:
    levels = np.linspace(0, 1, 10)
    expected = [colorsys.hsv_to_rgb(hue / 36, s, v) for hue in range(36) for s in levels for v in levels]
    np.testing.assert_allclose(train_data().inputs, expected, atol=1e-6)
    assert all((train_data().inputs == torch.tensor(color)).all(dim=1).sum() == 1 for color in SIX)


def test_validation_grid_is_every_mixture_of_ten_levels() -> None:
    levels = np.linspace(0, 1, 10)
    expected = {(r, g, b) for r in levels.round(5) for g in levels.round(5) for b in levels.round(5)}
    found = Colors().data({}).validation.inputs.double().numpy().round(5)
    assert len(found) == 1000
    assert {tuple(color) for color in found} == expected


def test_equal_colors_of_the_grid_are_equal_to_the_last_bit() -> None:
    """36 hues x 9 saturations x 9 values, and ten greys."""
    assert len(torch.unique(train_data().inputs, dim=0)) == 36 * 9 * 9 + 10


# The net


def test_net_is_3_16_4_16_3_with_gelu_and_a_sigmoid() -> None:
    model = model_of()
    weights = [tensor.double().numpy() for tensor in model.state_dict().values()]
    assert [tensor.shape for tensor in weights[::2]] == [(16, 3), (4, 16), (16, 4), (3, 16)]
    from scipy.special import erf, expit

    def gelu(x: np.ndarray) -> np.ndarray:
        return x * (1 + erf(x / np.sqrt(2))) / 2

    colors = Colors().data({}).validation.inputs
    with torch.no_grad():
        output = model(colors)
    code = gelu(colors.double().numpy() @ weights[0].T + weights[1]) @ weights[2].T + weights[3]
    np.testing.assert_allclose(output.code, code, atol=1e-5)
    decoded = expit(gelu(code @ weights[4].T + weights[5]) @ weights[6].T + weights[7])
    np.testing.assert_allclose(output.reconstruction, decoded, atol=1e-5)
    six = gelu(np.array(SIX) @ weights[0].T + weights[1]) @ weights[2].T + weights[3]
    np.testing.assert_allclose(output.named, six, atol=1e-5)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden"):
        Colors().build_model({"hidden": 0})


# Loss terms


def written_out(output: ColorOutput, colors: np.ndarray, state: dict[str, torch.Tensor]) -> dict[str, float]:
    """The terms' means by loops in double precision."""
    made, z, named = (tensor.double().numpy() for tensor in output)
    per_sample = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if tuple(colors[i]) != tuple(colors[j])]
        near = [1 / ((z[i, 0] - z[j, 0]) ** 2 + (z[i, 1] - z[j, 1]) ** 2 + SEPARATION_EPS) for j in others]
        per_sample.append(sum(near) / len(near) if near else 0.0)
    moved = [sum((named[i, k] - float(state["anchors"][i, k])) ** 2 for k in range(4)) for i in range(6)]
    return {
        "recon": sum((made[i, k] - colors[i, k]) ** 2 for i in range(len(z)) for k in range(3)) / (3 * len(z)),
        "norm": sum((np.sqrt((row**2).sum()) - 1) ** 2 for row in z) / len(z),
        "planar": sum((row[2] ** 2 + row[3] ** 2) / 2 for row in z) / len(z),
        "separate": sum(per_sample) / len(z),
        "anchor": float(state["anchored"]) * sum(moved) / 6,
    }


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 12), kinds=st.integers(1, 6), seed=st.integers(0, 2**32), anchored=st.booleans())
def test_terms_are_those_written_out(count: int, kinds: int, seed: int, anchored: bool) -> None:
    """Colours are drawn from few kinds, so that some stand in a batch twice."""
    random = np.random.default_rng(seed)
    colors = torch.tensor(random.choice(random.random((kinds, 3)), count), dtype=torch.float32)
    model = model_of(seed % 2**31)
    state = {"anchors": torch.tensor(random.normal(size=(6, 4))).float(), "anchored": torch.tensor(float(anchored))}
    with torch.no_grad():
        output = model(colors)
    terms = Colors().losses(output, Batch(colors), state)
    expected = written_out(output, colors.numpy(), state)
    assert list(terms) == list(expected)
    for name, term in terms.items():
        assert term.shape == (() if name == "anchor" else (count,))
        assert float(term.double().mean()) == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name


def test_points_two_apart_are_separated_by_a_quarter() -> None:
    """Two colours at (1, 0) and (-1, 0): 1 / (4 + eps), whatever the other two coordinates and however many copies."""
    code = torch.tensor([[1.0, 0, 3, -2], [-1.0, 0, 0, 5]])
    colors = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    for index in ([0, 1], [0, 1, 1, 1], [1, 0, 0, 1, 0]):
        output = ColorOutput(colors[index], code[index], torch.zeros(6, 4))
        separate = Colors().losses(output, Batch(colors[index]), Colors().state())["separate"]
        torch.testing.assert_close(separate, torch.full((len(index),), 1 / (4 + SEPARATION_EPS)))


def test_gradients_are_finite_where_codes_coincide_and_vanish() -> None:
    code = torch.zeros(3, 4, requires_grad=True)
    colors = torch.eye(3)
    terms = Colors().losses(ColorOutput(colors, code, code.repeat(2, 1)), Batch(colors), Colors().state())
    torch.stack([term.mean() for term in terms.values()]).sum().backward()
    assert torch.isfinite(code.grad).all()


@settings(deadline=None, max_examples=20)
@given(
    count=st.integers(1, 8), kinds=st.integers(1, 5), size=st.sampled_from([1e-2, 1.0, 5.0]), seed=st.integers(0, 99)
)
def test_separation_has_the_gradient_of_its_values(count: int, kinds: int, size: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    colors = torch.rand(kinds, 3, generator=random)[torch.randint(kinds, (count,), generator=random)]
    points = size * torch.randn(count, 2, generator=random, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda points: separation(points, colors), points.requires_grad_())


@pytest.mark.parametrize("in_dims", [(0, 0), (1, 1), (0, None), (None, 0)])
def test_gradients_of_stacked_separations_are_those_of_each_alone(in_dims: tuple[int | None, int | None]) -> None:
    points, colors = torch.randn(3, 7, 2, dtype=torch.float64), torch.rand(3, 7, 3).round()
    given = [
        tensor[0] if dim is None else tensor.movedim(0, dim).contiguous()
        for tensor, dim in zip((points, colors), in_dims, strict=True)
    ]
    given[0].requires_grad_()
    weights = torch.rand(3, 7, dtype=torch.float64)
    (found,) = torch.autograd.grad((vmap(separation, in_dims)(*given) * weights).sum(), given[0])
    alone = [
        tensor[:1].expand_as(tensor) if dim is None else tensor
        for tensor, dim in zip((points, colors), in_dims, strict=True)
    ]
    own = [tensor.clone().requires_grad_() for tensor in alone[0]]
    sums = [(separation(*pair) * weight).sum() for *pair, weight in zip(own, alone[1], weights, strict=True)]
    expected = torch.stack(torch.autograd.grad(sum(sums), own))
    torch.testing.assert_close(found, expected.sum(0) if in_dims[0] is None else expected.movedim(0, in_dims[0]))


def test_terms_of_stacked_models_are_those_of_each_alone() -> None:
    task, models = Colors(), [model_of(seed) for seed in range(3)]
    colors = torch.stack([drawn(0.5, 24, seed) for seed in range(3)])
    states = {"anchors": torch.rand(3, 6, 4), "anchored": torch.tensor([0.0, 1.0, 1.0])}
    parameters, buffers = stack_module_state(models)

    def terms(parameters, buffers, colors, state):
        def model(inputs):
            return functional_call(models[0], (parameters, buffers), (inputs,))

        return task.losses(task.forward(model, Batch(colors)), Batch(colors), state)

    together = vmap(terms)(parameters, buffers, colors, states)
    for i, model in enumerate(models):
        own = {name: tensor[i] for name, tensor in states.items()}
        alone = task.losses(task.forward(model, Batch(colors[i])), Batch(colors[i]), own)
        for name, term in alone.items():
            torch.testing.assert_close(together[name][i], term, rtol=1e-4, atol=1e-6)


def test_anchor_is_zero_until_the_action_and_then_measures_how_far_the_six_have_moved() -> None:
    task, model, state = Colors(), model_of(), Colors().state()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {"anchors": (6, 4), "anchored": ()}
    colors = torch.rand(5, 3)

    def anchor(state: dict[str, torch.Tensor]) -> float:
        with torch.no_grad():
            return float(task.losses(model(colors), Batch(colors), state)["anchor"])

    assert anchor(state) == 0
    stored = task.on_action("anchor", model, state)
    assert not stored["anchors"].requires_grad
    assert anchor({**state, **stored}) == 0
    shift = torch.tensor([0.1, -0.2, 0.3, 0.4])
    with torch.no_grad():
        model.encoder[-1].bias += shift
    assert anchor(state) == 0
    assert anchor({**state, **stored}) == pytest.approx(0.01 + 0.04 + 0.09 + 0.16, rel=1e-4)


# What is drawn


@pytest.mark.parametrize(
    ("fraction", "weight"),
    [
        (0.0, lambda x: max(0.0, (x - 0.99) / 0.01)),
        (0.25, lambda x: max(0.0, (x - 0.495) / 0.505)),
        (0.5, lambda x: x),
        (0.75, lambda x: 0.5 + 0.5 * x),
        (1.0, lambda x: 1.0),
    ],
)
def test_sampling_weights_at_the_quarters(fraction: float, weight) -> None:
    vivid = torch.linspace(0, 1, 101)
    expected = [weight(x) for x in vivid.tolist()]
    np.testing.assert_allclose(sampling_weights(vivid, fraction), expected, atol=1e-5)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_sampling_weights_grow_with_vividness_and_with_the_fraction(one: float, two: float) -> None:
    less, more = (sampling_weights(torch.linspace(0, 1, 50), fraction) for fraction in sorted((one, two)))
    for weights in (less, more):
        assert (weights >= 0).all() and (weights <= 1).all()
        assert (weights.diff() >= 0).all()
        assert float(weights[-1]) == pytest.approx(1)
    assert (more >= less - 1e-9).all()


def test_vividness_is_saturation_times_value() -> None:
    expected = [s * v for color in train_data().inputs.tolist() for _, s, v in [colorsys.rgb_to_hsv(*color)]]
    np.testing.assert_allclose(vividness(train_data().inputs), expected, atol=1e-6)


def test_a_fraction_of_zero_draws_vivid_hues_only_and_all_of_them() -> None:
    found = torch.unique(drawn(0.0, 2000), dim=0)
    assert len(found) == 36
    assert torch.equal(vividness(found), torch.ones(36))


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.75])
def test_colors_are_drawn_in_proportion_to_their_weights(fraction: float) -> None:
    """The mean vividness of what is drawn, within four standard errors of its expectation."""
    x = vividness(train_data().inputs).double()
    probability = sampling_weights(x, fraction) / sampling_weights(x, fraction).sum()
    mean = float((probability * x).sum())
    deviation = float((probability * (x - mean) ** 2).sum().sqrt())
    assert abs(float(vividness(drawn(fraction, 20_000)).mean()) - mean) < 4 * deviation / 20_000**0.5


def test_a_batch_depends_on_the_generator_alone() -> None:
    assert torch.equal(drawn(0.3, 50, seed=1), drawn(0.3, 50, seed=1))
    assert not torch.equal(drawn(0.3, 50, seed=1), drawn(0.3, 50, seed=2))


def test_a_fraction_of_one_takes_every_sample_once_an_epoch() -> None:
    index = torch.randperm(3600, generator=generator())
    batches = [Colors().batch(train_data(), part, {"data_fraction": 1.0}, generator()) for part in index.split(500)]
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), train_data().inputs[index])


@pytest.mark.parametrize("count", [1, 6, 20, 72])
def test_the_first_phase_shows_the_six_colors_in_turn(count: int) -> None:
    found = drawn(0.0, count, phase="Primary & secondary")
    assert found.tolist() == [list(map(float, SIX[i % 6])) for i in range(count)]


@pytest.mark.parametrize("phase", ["", *Colors.phases[1:]])
def test_other_phases_draw_from_the_grid(phase: str) -> None:
    assert torch.equal(drawn(0.3, 60, phase=phase), drawn(0.3, 60))


def test_a_fraction_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"data_fraction.*from 0 to 1.*1\.5"):
        Colors().data({"data_fraction": 1.5})


# Pictures and files


def test_trace_gives_the_codes_of_the_probe_colors() -> None:
    model = model_of()
    with torch.no_grad():
        codes = Colors().trace(model)["codes"]
        assert codes.shape == (len(PROBES), 4)
        torch.testing.assert_close(codes, model(torch.tensor(list(PROBES.values()))).code)
        torch.testing.assert_close(codes[:6], model(torch.tensor(SIX).float()).code)


@pytest.mark.parametrize(
    ("point", "pixel"), [((0.75, 0.75), (300, 100)), ((-0.375, 0), (150, 200)), ((9, -9), (398, 398))]
)
def test_preview_draws_a_color_at_its_code(point: tuple[float, float], pixel: tuple[int, int]) -> None:
    """All codes at one point: the last colour drawn there, magenta, lies on top; what is out of sight, on the edge."""
    model = model_of()
    with torch.no_grad():
        model.encoder[-1].weight.zero_()
        model.encoder[-1].bias.copy_(torch.tensor([*point, 5.0, 5.0]))
        shown = Colors().preview(model, Colors().data({}))
    assert shown.size == (400, 400)
    assert shown.getpixel(pixel) == (255, 0, 255)
    assert len({shown.getpixel(place) for place in ((5, 5), (390, 10), (200, 260))}) == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_preview_shows_where_the_six_colors_are(seed: int) -> None:
    model = model_of(seed)
    with torch.no_grad():
        shown = Colors().preview(model, Colors().data({}))
        points = model(torch.tensor(SIX).float()).code[:, :2].tolist()
    x, y = points[-1]
    assert shown.getpixel((round(200 + x / 1.5 * 200), round(200 - y / 1.5 * 200))) == (255, 0, 255)


def test_apply_passes_every_pixel_through_the_net(tmp_path: Path) -> None:
    colors = torch.rand(7 * 5, 3, generator=generator())
    image = Image.fromarray((colors * 255).round().byte().reshape(5, 7, 3).numpy())
    image.save(tmp_path / "in.png")
    model = model_of()
    with torch.no_grad():
        ((path, words),) = Colors().apply(model, {}, tmp_path / "in.png", tmp_path / "out")
        expected = model((colors * 255).round() / 255).reconstruction.reshape(5, 7, 3)
    with Image.open(path) as written:
        found = np.asarray(written, dtype=np.float64)
    np.testing.assert_allclose(found, expected.numpy() * 255, atol=0.5 + 1e-3)
    error = expected.double().numpy() - np.asarray(image, dtype=np.float64) / 255
    assert f"PSNR {-10 * np.log10((error**2).mean()):.1f} dB" in words


def test_nothing_is_written_where_one_image_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    (folder / "b.png").write_text("no image")
    with pytest.raises(UsageError, match=r"b\.png"):
        list(Colors().apply(model_of(), {}, folder, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


# The two timelines

TIMELINES = [bundled_folder() / "timelines" / f"colors_{kind}.csv" for kind in ("stepped", "smooth")]
PROPERTIES = ["learning_rate", "recon", "norm", "planar", "separate", "anchor", "data_fraction"]


class Written:
    """A timeline's file, read with the csv module alone; relative steps are measured from the next absolute row."""

    def __init__(self, path: Path) -> None:
        lines = path.read_text().splitlines()
        assert lines[0] == "# steps: 10000"
        self.rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        self.steps = [
            int(row["STEP"]) if row["STEP"].isdigit() else int(self.rows[i + 1]["STEP"]) + int(row["STEP"])
            for i, row in enumerate(self.rows)
        ]
        self.columns = {heading.split(":")[0]: heading for heading in list(self.rows[0])[3:]}

    def at(self, name: str, step: float) -> float:
        """A property's value, by the definitions of step and minimum jerk, in log space where the heading says so."""
        heading = self.columns[name]
        _, space, interpolation = heading.split(":")
        keys = [(s, float(row[heading])) for s, row in zip(self.steps, self.rows, strict=True) if row[heading]]
        before = max(key for key in keys if key[0] <= step)
        later = [key for key in keys if key[0] > step]
        if interpolation == "step" or not later:
            return before[1]
        assert interpolation == "minjerk"
        t = (step - before[0]) / (later[0][0] - before[0])
        share = 10 * t**3 - 15 * t**4 + 6 * t**5
        ends = np.array([before[1], later[0][1]])
        if space == "log":
            return float(np.exp((1 - share) * np.log(ends[0]) + share * np.log(ends[1])))
        return float((1 - share) * ends[0] + share * ends[1])

    def phase_ends(self) -> list[int]:
        """The step of the last row of each phase."""
        starts = [i for i, row in enumerate(self.rows) if row["PHASE"]]
        return [self.steps[i - 1] for i in starts[1:]] + [self.steps[-1]]


def test_both_timelines_have_the_same_steps_phases_action_and_columns() -> None:
    stepped, smooth = map(Written, TIMELINES)
    assert stepped.steps == smooth.steps == [0, 10, 499, 500, 2499, 2500, 7499, 7500, 10000]
    assert list(stepped.columns) == list(smooth.columns) == PROPERTIES
    for written in (stepped, smooth):
        assert [row["PHASE"] for row in written.rows if row["PHASE"]] == list(Colors.phases)
        actions = [
            (step, row["ACTION"]) for step, row in zip(written.steps, written.rows, strict=True) if row["ACTION"]
        ]
        assert actions == [(500, "anchor")]
    assert {heading.split(":")[2] for heading in stepped.columns.values()} == {"step"}
    assert {heading.split(":")[2] for heading in smooth.columns.values()} == {"minjerk"}


def test_both_timelines_start_alike_and_agree_at_the_end_of_every_phase() -> None:
    stepped, smooth = map(Written, TIMELINES)
    assert stepped.phase_ends() == smooth.phase_ends() == [499, 2499, 7499, 10000]
    for step in (0, *stepped.phase_ends()):
        for name in PROPERTIES:
            assert stepped.at(name, step) == pytest.approx(smooth.at(name, step), rel=1e-12), (name, step)
    assert any(stepped.at(name, 1500) != pytest.approx(smooth.at(name, 1500)) for name in PROPERTIES)


@pytest.mark.parametrize("path", TIMELINES, ids=lambda path: path.stem)
def test_the_curriculum_is_as_told(path: Path) -> None:
    written = Written(path)
    ends = [0, *written.phase_ends()]
    told = {
        "learning_rate": [1e-8, 0.01, 0.02, 0.02, 0.001],
        "recon": [1, 1, 1, 1, 1],
        "norm": [0.01, 0.25, 0.5, 0.5, 0.25],
        "planar": [0, 0.4, 0.4, 0.2, 0],
        "separate": [0, 0.2, 0.2, 0, 0],
        "anchor": [0, 0, 0.5, 0.5, 0.5],
        "data_fraction": [0, 0, 0, 1, 1],
    }
    for name, values in told.items():
        assert [written.at(name, step) for step in ends] == pytest.approx(values), name
    assert written.at("learning_rate", 10) == pytest.approx(0.01)
    assert max(written.at("anchor", step) for step in range(0, 500, 7)) == 0
    assert written.at("anchor", 501) > 0


@pytest.mark.parametrize("path", TIMELINES, ids=lambda path: path.stem)
def test_tuner_reads_the_timelines_as_they_are_written(path: Path) -> None:
    written, timeline = Written(path), read_csv(path)
    assert isinstance(timeline, Timeline)
    for step in (0, 3, 10, 250, 499, 500, 777, 2499, 2500, 5000, 7499, 7500, 9999):
        found = timeline.at(step, 10_000)
        assert found == pytest.approx({name: written.at(name, step) for name in PROPERTIES}, rel=1e-9)
    assert timeline.phase_bounds(10_000) == [
        ("Primary & secondary", 0, 500),
        ("All hues", 500, 2500),
        ("All colors", 2500, 7500),
        ("Fine-tuning", 7500, 10_000),
    ]
    assert timeline.actions_at(500, 10_000) == ("anchor",)


# Learning


@pytest.mark.slow
def test_learns_to_less_than_a_thousandth(own_folder: Path, tuner) -> None:
    assert tuner("train", "colors", "--quiet", "--out", "out").code == 0
    with Path("out/epochs.csv").open() as file:
        assert min(float(row["val_recon"]) for row in csv.DictReader(file)) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stepped", "smooth"])
def test_a_curriculum_anchors_the_six_colors_and_spreads_them_out(own_folder: Path, tuner, kind: str) -> None:
    """The 10,000 steps squeezed into 600: anchored after 30, when the first epoch is over."""
    options = ["epochs=20", "batch_size=120", "scheduler=null", f"timeline=timelines/colors_{kind}.csv"]
    settings = [part for option in options for part in ("--set", option)]
    assert tuner("train", "colors", "--quiet", "--out", "out", *settings).code == 0
    with Path("out/epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["val_anchor"]) == 0
    assert all(float(row["val_anchor"]) > 0 for row in rows[1:])
    assert float(rows[-1]["val_anchor"]) < 0.2
    assert float(rows[-1]["val_recon"]) < 0.02


def test_the_six_are_the_named_ones_and_the_first_probes() -> None:
    assert list(NAMED.values()) == [tuple(map(float, color)) for color in SIX] == list(PROBES.values())[:6]
