"""The digits task's pictures and files: what it reads from images, and what it shows."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tuner.errors import UsageError
from tuner.tasks import Batch
from tuner.tasks.digits import Digits, digit_in


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """A net after two epochs, which reads most digits."""
    task = Digits()
    torch.manual_seed(0)
    net = task.build_model({**task.model_options, "channels": 8, "timesteps": 2})
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    data = task.data({}).train
    for _ in range(2):
        for index in torch.randperm(len(data)).split(32):
            batch = data.rows(index)
            optimizer.zero_grad()
            task.losses(net(batch.inputs), batch, {})["cross_entropy"].mean().backward()
            optimizer.step()
    return net.eval()


def image_of(pixels: torch.Tensor, scale: int = 1, dark_ink: bool = False) -> Image.Image:
    """A digit (1 x 8 x 8) as a grey image, each pixel a block of `scale` x `scale`."""
    grey = (pixels[0].numpy() * 255).round().astype(np.uint8)
    return Image.fromarray(np.kron(255 - grey if dark_ink else grey, np.ones((scale, scale), dtype=np.uint8)))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_top5_accuracy_counts_digits_among_the_five_largest() -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(50, 10)), generator.integers(0, 10, size=50)
    found = Digits().metrics(torch.tensor(logits), Batch(None, torch.tensor(labels)))
    ranks = (logits > logits[np.arange(50), labels][:, None]).sum(axis=1)
    for name, within in (("accuracy", 1), ("top5_accuracy", 5)):
        assert float(found[name].total) / found[name].number == pytest.approx((ranks < within).mean())


@pytest.mark.parametrize("dark_ink", [False, True])
@pytest.mark.parametrize("scale", [1, 3, 16])
def test_images_of_digits_are_read_as_the_data_is(model: torch.nn.Module, scale: int, dark_ink: bool) -> None:
    pixels = Digits().data({}).validation.inputs[:20]
    for digit in pixels:
        seen = digit_in(image_of(digit, scale, dark_ink).convert("RGB"))
        torch.testing.assert_close(seen, digit.unsqueeze(0), atol=0.5 / 255 + 1e-4, rtol=0)


def test_what_is_not_square_gets_paper_on_both_sides() -> None:
    tall = np.zeros((16, 8), dtype=np.uint8)
    tall[:, 2:6] = 255
    expected = torch.zeros(8, 8)
    expected[:, 3:5] = 1
    for image in (tall, 255 - tall):
        torch.testing.assert_close(digit_in(Image.fromarray(image).convert("RGB"))[0, 0], expected)
        torch.testing.assert_close(digit_in(Image.fromarray(image.T.copy()).convert("RGB"))[0, 0], expected.T)


@pytest.mark.parametrize("size", [(1, 1), (3, 20000), (20000, 1)])
def test_any_size_is_read(size: tuple[int, int]) -> None:
    assert digit_in(Image.new("RGB", size)).shape == (1, 1, 8, 8)


def test_apply_writes_what_each_file_is_read_as(model: torch.nn.Module, tmp_path: Path) -> None:
    task, folder = Digits(), tmp_path / "digits"
    folder.mkdir()
    pixels = Digits().data({}).validation.inputs[:12]
    for number, digit in enumerate(pixels):
        image_of(digit, scale=8, dark_ink=number % 2 == 0).save(folder / f"{number:02d}.png")
    (folder / "notes.txt").write_text("no image")
    with torch.no_grad():
        ((path, words),) = task.apply(model, {}, folder, tmp_path / "out")
        chances = torch.softmax(model((pixels * 255).round() / 255), dim=1)
    assert path == tmp_path / "out" / "predictions.csv"
    assert words == "12 digits read"
    rows = read_csv(path)
    assert [row["file"] for row in rows] == [f"{number:02d}.png" for number in range(12)]
    assert [int(row["digit"]) for row in rows] == chances.argmax(dim=1).tolist()
    np.testing.assert_allclose([float(row["probability"]) for row in rows], chances.max(dim=1).values, atol=1e-3)


def test_a_table_may_be_given_its_name(model: torch.nn.Module, tmp_path: Path) -> None:
    image_of(Digits().data({}).validation.inputs[0]).save(tmp_path / "a.png")
    with torch.no_grad():
        ((path, words),) = Digits().apply(model, {}, tmp_path / "a.png", tmp_path / "new" / "table.csv")
    assert path == tmp_path / "new" / "table.csv"
    assert len(read_csv(path)) == 1
    assert words == "1 digit read"


def test_a_damaged_image_is_named_and_nothing_written(model: torch.nn.Module, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    image_of(Digits().data({}).validation.inputs[0]).save(folder / "a.png")
    (folder / "b.png").write_text("no image")
    with pytest.raises(UsageError, match=r"b\.png"):
        list(Digits().apply(model, {}, folder, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match=r"c\.png.*no such file"):
        list(Digits().apply(model, {}, folder / "c.png", tmp_path / "out"))


def test_preview_shows_digits_and_tells_right_from_wrong(model: torch.nn.Module) -> None:
    data = Digits().data({})
    with torch.no_grad():
        sheet = np.asarray(Digits().preview(model, data), dtype=int)
        read = model(data.validation.inputs[:40]).argmax(dim=1)
    assert sheet.shape == (5 * 72, 8 * 56, 3)
    right = (read == data.validation.targets[:40]).tolist()
    assert 20 < sum(right) <= 40
    for number, is_right in enumerate(right):
        top, left = number // 8 * 72, number % 8 * 56
        shown = sheet[top + 4 : top + 52, left + 4 : left + 52, 0].reshape(8, 6, 8, 6).mean(axis=(1, 3))
        np.testing.assert_allclose(shown, data.validation.inputs[number, 0].numpy() * 255, atol=1)
        words = sheet[top + 54 : top + 72, left : left + 56].reshape(-1, 3).sum(axis=0)
        assert (words[1] > words[0]) == is_right
