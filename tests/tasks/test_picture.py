"""The picture task: its data, net and loss terms against the formulas, its PSNR, and images of every kind."""

from __future__ import annotations

import csv
import io
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from tuner.errors import UsageError
from tuner.tasks import Batch
from tuner.tasks.images import image_files, outputs_for, psnr, read_image
from tuner.tasks.picture import CoordinateNet, Picture, coordinates

OPTIONS = dict(Picture.model_options)


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downward, blue is one half."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 128)], axis=-1).round().astype(np.uint8))


def opened(path: Path) -> Image.Image:
    """An image file, read by Pillow alone."""
    with Image.open(path) as image:
        image.load()
        return image


def trained(steps: int, **options: int) -> tuple[Picture, torch.nn.Module]:
    """The task and a model after some steps of Adam on the default picture."""
    task = Picture()
    torch.manual_seed(0)
    model = task.build_model({**OPTIONS, **options})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    data = task.data({}).train
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = data.rows(torch.randint(len(data), (1024,), generator=generator))
        optimizer.zero_grad()
        task.losses(model(batch.inputs), batch, {})["mse"].mean().backward()
        optimizer.step()
    return task, model.eval()


def test_a_pixel_lies_at_its_centre_and_has_its_color(tmp_path: Path) -> None:
    gradient(16, 16).save(tmp_path / "gradient.png")
    data = Picture().data({"path": str(tmp_path / "gradient.png"), "size": 16})
    picture = gradient(16, 16)
    for place, color in zip(data.train.inputs.tolist(), data.train.targets.tolist(), strict=True):
        x, y = ((coordinate + 1) / 2 * 16 - 0.5 for coordinate in place)
        assert (x, y) == (pytest.approx(round(x), abs=1e-5), pytest.approx(round(y), abs=1e-5))
        assert [round(255 * channel) for channel in color] == list(picture.getpixel((round(x), round(y))))


def test_the_default_picture_is_65536_pixels_of_which_none_is_held_out() -> None:
    data = Picture().data({})
    assert data.train.inputs.shape == (65536, 2)
    assert torch.equal(data.train.targets, data.validation.targets)
    assert data.train.inputs.abs().max() == 1 - 1 / 256
    assert 0 <= data.train.targets.min() < 0.1 and 0.9 < data.train.targets.max() <= 1


def test_a_picture_that_is_not_square_is_squeezed_whole(tmp_path: Path) -> None:
    gradient(90, 30).save(tmp_path / "wide.png")
    colors = Picture().data({"path": str(tmp_path / "wide.png"), "size": 30}).train.targets.reshape(30, 30, 3)
    assert colors[:, 0, 0].max() < 0.05 and colors[:, -1, 0].min() > 0.95
    assert colors[0, :, 1].max() < 0.05 and colors[-1, :, 1].min() > 0.95


def test_shrinking_takes_the_mean_of_what_a_pixel_covers(tmp_path: Path) -> None:
    """A fine chequerboard becomes grey: a filter that picked single pixels would give black or white."""
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    colors = Picture().data({"path": str(tmp_path / "board.png"), "size": 16}).train.targets
    assert torch.allclose(colors, torch.full_like(colors, 0.5), atol=0.02)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=60))
def test_terms_are_those_written_out(values: list[float]) -> None:
    half = len(values) // 6 * 3
    output, target = (np.array(part, dtype=np.float64).reshape(-1, 3) for part in (values[:half], values[half:][:half]))
    error = np.abs(output - target)
    expected = {
        "mse": (error**2).mean(axis=1),
        "l1": error.mean(axis=1),
        "huber": np.where(error < 0.1, error**2 / 2, 0.1 * (error - 0.05)).mean(axis=1),
    }
    batch = Batch(None, torch.tensor(target, dtype=torch.float32))
    terms = Picture().losses(torch.tensor(output, dtype=torch.float32), batch, {})
    assert set(terms) == set(expected)
    for name, term in terms.items():
        np.testing.assert_allclose(term.numpy(), expected[name], atol=1e-6)


@pytest.mark.parametrize(("mse", "decibel"), [(1.0, 0.0), (0.01, 20.0), (0.001, 30.0), (0.25, 6.0206), (0.0, 120.0)])
def test_psnr_of_a_known_error(mse: float, decibel: float) -> None:
    assert psnr(mse) == pytest.approx(decibel, abs=1e-4)
    assert Picture().derived({"loss": 7.0, "mse": mse, "l1": 3.0, "huber": 2.0}) == {"psnr": psnr(mse)}


def test_psnr_of_an_error_that_is_no_number_is_none_either() -> None:
    assert math.isnan(psnr(math.nan))


@pytest.mark.parametrize("loss", ["l1", "mse"])
def test_recorded_psnr_is_that_of_all_pixels_whatever_the_loss(own_folder: Path, tuner, loss: str) -> None:
    """25 x 25 pixels in batches of 64, validation in batches of 256: neither divides 625."""
    gradient(40, 40).save("gradient.png")
    options = ["data.path=gradient.png", "data.size=25", "batch_size=64", "epochs=2", f"loss={loss}"]
    settings = [part for option in options for part in ("--set", option)]
    assert tuner("train", "picture", "--quiet", "--out", "out", *settings).code == 0
    with Path("out/epochs.csv").open() as file:
        recorded = list(csv.DictReader(file))
    best = max(recorded, key=lambda row: float(row["val_psnr"]))
    net = CoordinateNet(**OPTIONS)
    net.load_state_dict(load_file("out/weights.safetensors"))
    target = np.asarray(gradient(40, 40).resize((25, 25), Image.Resampling.LANCZOS), dtype=np.float64) / 255
    with torch.no_grad():
        drawn = net(coordinates(25, 25)).reshape(25, 25, 3).double().numpy()
    assert float(best["val_psnr"]) == pytest.approx(-10 * np.log10(((drawn - target) ** 2).mean()), abs=1e-3)
    for row in recorded:
        assert float(row["train_psnr"]) == pytest.approx(-10 * math.log10(float(row["train_mse"])))


@pytest.mark.parametrize("frequencies", [0, 1, 5])
def test_net_follows_its_equations(frequencies: int) -> None:
    torch.manual_seed(0)
    net = CoordinateNet(hidden=7, layers=3, frequencies=frequencies)
    places = torch.rand(11, 2) * 2 - 1
    seen = [places.double().numpy()]
    for wave in (np.sin, np.cos):
        seen += [wave(2.0**k * np.pi * seen[0][:, [axis]]) for axis in (0, 1) for k in range(frequencies)]
    hidden = np.concatenate(seen, axis=1)
    *before, last = (layer for layer in net.layers if isinstance(layer, torch.nn.Linear))
    assert len(before) == 3
    for layer in before:
        hidden = np.maximum(hidden @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy(), 0)
    out = hidden @ last.weight.detach().double().numpy().T + last.bias.detach().double().numpy()
    np.testing.assert_allclose(net(places).detach().numpy(), 1 / (1 + np.exp(-out)), atol=1e-5)


def test_the_default_net_is_2_64_64_64_3() -> None:
    shapes = [tuple(tensor.shape) for tensor in Picture().build_model(OPTIONS).state_dict().values()]
    assert shapes == [(64, 2), (64,), (64, 64), (64,), (64, 64), (64,), (3, 64), (3,)]


@pytest.mark.parametrize("options", [{"hidden": 0}, {"layers": 0}, {"frequencies": -1}, {"frequencies": 17}])
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Picture().build_model({**OPTIONS, **options})


def test_preview_shows_target_prediction_and_difference() -> None:
    task, model = trained(20)
    data = task.data({"size": 48})
    with torch.no_grad():
        shown = np.asarray(task.preview(model, data), dtype=np.float64)
        drawn = model(data.validation.inputs).reshape(48, 48, 3).numpy() * 255
    assert shown.shape == (48, 3 * 48, 3)
    target = data.validation.targets.reshape(48, 48, 3).numpy() * 255
    for left, part in ((0, target), (48, drawn), (96, np.abs(target - drawn))):
        assert np.abs(shown[:, left : left + 48] - part).max() <= 0.5 + 1e-3


@pytest.mark.slow
def test_learns_the_default_picture_to_20_decibel_and_draws_it_at_any_size(tmp_path: Path) -> None:
    task, model = trained(500, frequencies=6)
    for width, height in ((320, 214), (64, 64)):
        source = tmp_path / f"{width}.png"
        china().resize((width, height), Image.Resampling.LANCZOS).save(source)
        with torch.no_grad():
            ((path, words),) = task.apply(model, {}, source, tmp_path / "out")
        drawn, given = (np.asarray(opened(name), dtype=np.float64) / 255 for name in (path, source))
        assert drawn.shape == (height, width, 3)
        decibel = -10 * np.log10(((drawn - given) ** 2).mean())
        assert decibel > 20
        assert f"PSNR {decibel:.1f} dB" in words and f"{width} x {height}" in words


def china() -> Image.Image:
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg"))


def test_apply_to_a_folder_takes_its_images_and_keeps_names_apart(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "a.jpg", "b.BMP"):
        gradient(9, 5).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    task, model = Picture(), Picture().build_model(OPTIONS)
    with torch.no_grad():
        written = list(task.apply(model, {}, folder, out))
    assert [path.name for path, _ in written] == ["a.jpg.png", "a.png.png", "b.png"]
    assert sorted(out.iterdir()) == sorted(path for path, _ in written)
    assert {opened(path).size for path, _ in written} == {(9, 5)}


def test_a_single_image_may_be_given_its_name_and_format(tmp_path: Path) -> None:
    gradient(9, 5).save(tmp_path / "a.png")
    with torch.no_grad():
        ((path, _),) = Picture().apply(
            Picture().build_model(OPTIONS), {}, tmp_path / "a.png", tmp_path / "new" / "b.jpg"
        )
    assert path == tmp_path / "new" / "b.jpg"
    assert opened(path).format == "JPEG"


def test_nothing_is_written_where_one_image_is_damaged(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    gradient(9, 5).save(folder / "a.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:60])
    with pytest.raises(UsageError, match=r"b\.png"):
        list(Picture().apply(Picture().build_model(OPTIONS), {}, folder, out))
    assert not out.exists()


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    gradient(9, 5).save(tmp_path / "a.png")
    for destination in (tmp_path, tmp_path / "a.png"):
        with pytest.raises(UsageError, match="overwrite"):
            outputs_for([tmp_path / "a.png"], destination)


def test_where_images_are_written_must_be_a_folder_or_an_image(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="a folder is needed"):
        outputs_for([Path("a.png")], tmp_path / "file")
    with pytest.raises(UsageError, match=r"(?s)\.jpgg.*\.jpg"):
        outputs_for([Path("a.png")], tmp_path / "b.jpgg")


def test_a_picture_that_cannot_be_read_is_named(own_folder: Path, tuner) -> None:
    Path("notes.png").write_text("no image")
    Path("folder").mkdir()
    for path, rule in (
        ("notes.png", "not an image"),
        ("folder", "a folder"),
        ("note.png", "Did you mean 'notes.png'?"),
    ):
        outcome = tuner("train", "picture", "--set", f"data.path={path}")
        assert outcome.code == 2
        assert path in outcome.err and rule in outcome.err


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"recipe\.data\.size"):
        Picture().data({"size": 1})


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UsageError, match="no image"):
        image_files(tmp_path)


RED, GREY = (200, 40, 40), (90, 90, 90)


def file_of(mode: str, folder: Path) -> Path:
    """An image of one colour in a mode that some files have: red, or grey where the mode has no colours."""
    path = folder / f"image.{'tiff' if mode in ('CMYK', 'F') else 'png'}"
    if mode == "I;16":
        Image.fromarray(np.full((4, 6), 90 * 257, dtype=np.uint16)).save(path)
    elif mode == "half":
        Image.new("RGBA", (6, 4), (*RED, 128)).save(path)
    elif mode == "clear":
        Image.new("RGBA", (6, 4), (*RED, 0)).save(path)
    elif mode == "palette":
        Image.new("RGB", (6, 4), RED).quantize(4).save(path)
    elif mode == "clear palette":
        Image.new("RGB", (6, 4), RED).quantize(4).save(path, transparency=0)
    elif mode in ("L", "LA", "F", "1"):
        Image.new("L", (6, 4), 255 if mode == "1" else 90).convert(mode).save(path)
    else:
        Image.new("RGB", (6, 4), RED).convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    ("mode", "color"),
    [
        ("RGB", RED),
        ("RGBA", RED),
        ("CMYK", RED),
        ("palette", RED),
        ("L", GREY),
        ("LA", GREY),
        ("F", GREY),
        ("I;16", GREY),
        ("1", (255, 255, 255)),
        ("half", (227, 147, 147)),  # half of it is the white below: (200 + 255) / 2, (40 + 255) / 2
        ("clear", (255, 255, 255)),
        ("clear palette", (255, 255, 255)),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, mode: str, color: tuple[int, int, int]) -> None:
    image = read_image(file_of(mode, tmp_path))
    assert (image.mode, image.size) == ("RGB", (6, 4))
    np.testing.assert_allclose(np.asarray(image), np.broadcast_to(color, (4, 6, 3)), atol=1)


def test_an_image_stands_as_its_camera_was_held(tmp_path: Path) -> None:
    image = gradient(8, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the right
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.asarray(read_image(tmp_path / "turned.png")), np.asarray(image.rotate(-90, expand=True)))


FORMATS = {"PNG": {}, "JPEG": {}, "GIF": {}, "TIFF": {"compression": "tiff_lzw"}, "WEBP": {}, "BMP": {}}


@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(sorted(FORMATS)),
    cut=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
)
def test_a_damaged_image_is_read_or_named(kind: str, cut: float, changes: list[tuple[float, int]]) -> None:
    content = io.BytesIO()
    gradient(12, 12).save(content, format=kind, **FORMATS[kind])
    damaged = bytearray(content.getvalue()[: round(cut * len(content.getvalue()))])
    for place, value in changes if damaged else ():
        damaged[int(place * len(damaged))] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image.{kind.lower()}"
        path.write_bytes(damaged)
        try:
            found = read_image(path).mode
        except UsageError as error:
            found = str(error)
    assert found == "RGB" or path.name in found
