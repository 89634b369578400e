"""`tuner apply`: the model of a study, or of a folder, on files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits


@pytest.fixture
def scans(own_folder: Path) -> Path:
    """Twenty digits as images."""
    folder = own_folder / "scans"
    folder.mkdir()
    pixels, labels = load_digits(return_X_y=True)
    for place in range(20):
        image = Image.fromarray((pixels[place].reshape(8, 8) * 15.9).astype(np.uint8))
        image.resize((64, 64), resample=Image.Resampling.NEAREST).save(folder / f"{place:02d}_is_{labels[place]}.png")
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_study_and_a_trained_folder_read_digits(scans: Path, tuner) -> None:
    assert tuner("quick", "digits", "--trials", "1", "--set", "epochs=4").code == 0
    applied = tuner("apply", "digits-quick", "scans", "read")
    assert applied.code == 0, applied.err
    assert applied.out.strip() == "read/predictions.csv: 20 digits read"
    rows = read(Path("read/predictions.csv"))
    right = sum(row["digit"] == row["file"].removesuffix(".png")[-1] for row in rows)
    assert right >= 17
    assert tuner("train", "--from", "digits-quick", "--out", "model").code == 0
    assert tuner("apply", "model", "scans", "again").code == 0
    again = read(Path("again/predictions.csv"))  # trained alone, so equal but for rounding
    assert [(row["file"], row["digit"]) for row in again] == [(row["file"], row["digit"]) for row in rows]
    chances = [[float(row["probability"]) for row in found] for found in (again, rows)]
    assert chances[0] == pytest.approx(chances[1], abs=1e-3)
    assert tuner("export", "digits-quick", "--out", "exported").code == 0
    assert tuner("apply", "exported", "scans", "third").code == 0
    assert read(Path("third/predictions.csv")) == rows


def test_weights_that_are_not_kept_or_of_another_model_are_refused(scans: Path, tuner) -> None:
    assert tuner("quick", "digits", "--trials", "2", "--set", "epochs=1").code == 0
    kept = {path.stem for path in Path("studies/digits-quick").glob("trial-*.safetensors")}
    (lost,) = {"trial-0000", "trial-0001"} - kept
    refused = tuner("apply", "digits-quick", "scans", "read", "--trial", lost[-1])
    assert refused.code == 2
    assert f"the weights of trial {int(lost[-1])} were not kept" in refused.err
    assert f"tuner train --from digits-quick --trial {int(lost[-1])}" in refused.err
    assert tuner("export", "digits-quick", "--out", "other").code == 0
    recipe = Path("other/recipe.yaml")
    recipe.write_text(recipe.read_text().replace("channels: ", "channels: 1"))
    refused = tuner("apply", "other", "scans", "read")
    assert refused.code == 2
    assert "the weights are not those of the recipe's model" in refused.err
    assert not Path("read").exists()


def test_a_task_without_apply_says_so(scans: Path, tuner) -> None:
    assert tuner("quick", "tiny.py", "--trials", "1").code == 0
    refused = tuner("apply", "tiny-quick", "scans", "read")
    assert refused.code == 2
    assert "Tiny says nothing about files" in refused.err


def test_a_damaged_image_is_named_and_nothing_is_written(scans: Path, tuner) -> None:
    (scans / "broken.png").write_bytes(b"no image")
    assert tuner("quick", "digits", "--trials", "1", "--set", "epochs=1").code == 0
    refused = tuner("apply", "digits-quick", "scans", "read")
    assert refused.code == 2
    assert "broken.png" in refused.err
    assert not Path("read/predictions.csv").exists()
