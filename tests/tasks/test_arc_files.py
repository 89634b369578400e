"""ARC files: folders to train on, files to solve, and pictures of puzzles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.errors import UsageError
from tuner.tasks import Data, Samples
from tuner.tasks.arc import Arc
from tuner.tasks.arc_puzzles.output_size import output_size
from tuner.tasks.arc_puzzles.puzzle import Pair

PAD = 10
Rows = list[list[int]]


def grid(rows: int, columns: int, seed: int = 0) -> Rows:
    found: Rows = np.random.default_rng(seed).integers(10, size=(rows, columns)).tolist()
    return found


def puzzle(side: int = 3, number: int = 0, shown: int = 3, tests: int = 1) -> dict[str, Any]:
    """A puzzle that mirrors grids of `side` x `side`; no two numbers have a grid in common."""
    befores = [grid(side, side, 1000 * number + i) for i in range(shown + tests)]
    pairs = [{"input": before, "output": [row[::-1] for row in before]} for before in befores]
    return {"train": pairs[:shown], "test": pairs[shown:]}


def folder_of(path: Path, puzzles: dict[str, Any]) -> Path:
    path.mkdir(exist_ok=True)
    for name, content in puzzles.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def data_of(folder: Path, **options: Any) -> tuple[Samples, Samples]:
    data = Arc().data({"path": str(folder), **options})
    assert isinstance(data.train, Samples)
    assert isinstance(data.validation, Samples)
    return data.train, data.validation


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return Arc().build_model(dict(Arc.model_options)).eval()


# Folders to train on


def grids_of(samples: Samples) -> set[bytes]:
    """Every grid that a sample shows or asks for."""
    parts = [*samples.inputs["context_in"].flatten(0, 1), *samples.inputs["context_out"].flatten(0, 1)]
    parts += [*samples.inputs["test"], *samples.targets["grid"]]
    return {part.numpy().tobytes() for part in parts if (part != PAD).any()}


def test_no_puzzle_is_on_both_sides(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {f"p{i}": puzzle(number=i, tests=1 + i % 3) for i in range(20)})
    train, validation = data_of(folder, puzzles=1)
    assert len(train) + len(validation) == sum(1 + i % 3 for i in range(20))
    assert not grids_of(train) & grids_of(validation)
    assert len(grids_of(validation)) > 0
    assert (train.targets["family"] == -1).all()


def test_the_split_goes_by_name(tmp_path: Path) -> None:
    """Whichever order the files were written in, and whatever else of the puzzle is the same."""
    numbers = range(20)
    first = folder_of(tmp_path / "a", {f"p{i}": puzzle(number=i) for i in numbers})
    second = folder_of(tmp_path / "b", {f"p{i}": puzzle(number=i) for i in reversed(numbers)})
    assert torch.equal(data_of(first)[1].inputs["test"], data_of(second)[1].inputs["test"])
    assert len(data_of(first)[1]) == 4


def test_two_files_of_one_puzzle_count_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {f"p{i}": puzzle(number=i // 4) for i in range(20)})
    train, validation = data_of(folder, puzzles=1)
    assert len(train) + len(validation) == 5


def test_a_folders_puzzles_are_repeated_up_to_an_epoch_and_show_their_other_pairs(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {f"p{i}": puzzle(number=i, shown=7) for i in range(5)})
    train, validation = data_of(folder, puzzles=30, pairs=2)
    assert len(validation) == 1
    assert len(train) == 32  # eight times four puzzles
    shown = train.inputs["context_in"].view(8, 4, 2, 10, 10)
    distinct = {part.numpy().tobytes() for part in shown[:, 0].flatten(0, 1)}
    assert len(distinct) == 7


def test_puzzles_that_do_not_fit_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {f"p{i}": puzzle(side=2 + i, number=i) for i in range(10)})
    train, validation = data_of(folder, size=8, puzzles=1)
    assert len(train) + len(validation) == 7
    assert train.inputs["test"].shape[1:] == (8, 8)
    (note,) = Arc().data({"path": str(folder), "size": 8}).notes
    assert "3 of 10 puzzles are left out, for they have grids larger than 8 x 8" in note
    assert Arc().data({"path": str(folder), "size": 11}).notes == ()
    with pytest.raises(UsageError, match=r"1 of 10 puzzles have grids of at most 2 x 2.*`size` at 3 there are 2"):
        data_of(folder, size=2)


def test_a_canvas_holds_the_grid_in_its_corner_and_padding_else(tmp_path: Path) -> None:
    content = {"train": [{"input": [[1, 2, 3]], "output": [[4], [5]]}], "test": [{"input": [[6]], "output": [[7, 8]]}]}
    folder = folder_of(tmp_path, {"a": content, "b": puzzle(number=1)})
    samples = [data_of(folder, size=4, pairs=2, puzzles=1)[i] for i in (0, 1)]
    (mine,) = [part for part in samples if part.inputs["test"][0, 0, 0] == 6]
    wide = mine.inputs["context_in"][0, 0]
    assert wide[0].tolist() == [1, 2, 3, PAD]
    assert (wide[1:] == PAD).all()
    assert mine.inputs["context_out"][0, 0][:, 0].tolist() == [4, 5, PAD, PAD]
    assert (mine.inputs["context_in"][0, 1] == PAD).all()
    assert mine.targets["grid"][0, 0].tolist() == [7, 8, PAD, PAD]


ROWS = [[1, 2], [3, 4]]
GOOD = {"train": [{"input": ROWS, "output": ROWS}], "test": [{"input": ROWS, "output": ROWS}]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", r"bad\.json: not JSON: "),
        ("[]", r"bad\.json: an ARC puzzle is written"),
        ({"test": GOOD["test"]}, r"bad\.json: has no 'train'"),
        ({"Train": GOOD["train"], "test": GOOD["test"]}, r"bad\.json: has no 'train'. Did you mean 'Train'\?"),
        ({**GOOD, "test": []}, r"bad\.json: test: must be a list of at least one pair \(got \[\]\)"),
        ({**GOOD, "train": [{"input": ROWS}]}, r"bad\.json: train\[0\]: has no 'output'"),
        ({**GOOD, "test": [{"input": ROWS}]}, r"bad\.json: test\[0\]: has no 'output'"),
        ({**GOOD, "test": [[ROWS, ROWS]]}, r"bad\.json: test\[0\]: a pair is written"),
        ({**GOOD, "test": [{"input": [[1, 2], [3]], "output": ROWS}]}, r"test\[0\]\.input: rows must be equally long"),
        (
            {**GOOD, "test": [{"input": [[1, 10]], "output": ROWS}]},
            r"input\[0\]\[1\]: a colour .* from 0 to 9 \(got 10\)",
        ),
        ({**GOOD, "test": [{"input": [[1, -1]], "output": ROWS}]}, r"input\[0\]\[1\].*\(got -1\)"),
        ({**GOOD, "test": [{"input": [[1.0]], "output": ROWS}]}, r"input\[0\]\[0\].*\(got 1\.0\)"),
        ({**GOOD, "test": [{"input": [[True]], "output": ROWS}]}, r"input\[0\]\[0\].*\(got True\)"),
        ({**GOOD, "test": [{"input": [], "output": ROWS}]}, r"input: a grid is a list of rows"),
        ({**GOOD, "test": [{"input": [[]], "output": ROWS}]}, r"input: a grid is a list of rows"),
        ({**GOOD, "test": [{"input": [[1]] * 31, "output": ROWS}]}, r"at most 30 rows and columns \(got '31 x 1'\)"),
    ],
)
def test_bad_files_are_named_with_what_is_wrong(tmp_path: Path, content: Any, words: str) -> None:
    folder = folder_of(tmp_path, {"good": GOOD, "other": puzzle(number=1)})
    (folder / "bad.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UsageError, match=words):
        data_of(folder)


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    folder_of(tmp_path / "training", {"a": GOOD})
    (tmp_path / "none").mkdir()
    cases = {
        "trainin": r"trainin: there is no such folder. Did you mean 'training'\?",
        "none": r"none: no ARC puzzle \(\*\.json\) in this folder",
        ".": r"no ARC puzzle .* Did you mean '.*training'\?",
        "training/a.json": "a file, where a folder of ARC puzzles is needed",
    }
    for name, words in cases.items():
        with pytest.raises(UsageError, match=words):
            data_of(tmp_path / name)


# Sizes of answers


def pairs_of_sizes(*sizes: tuple[tuple[int, int], tuple[int, int]]) -> list[Pair]:
    return [Pair(np.zeros(before, dtype=np.int64), np.zeros(after, dtype=np.int64)) for before, after in sizes]


@pytest.mark.parametrize(
    ("sizes", "test", "expected"),
    [
        ([((3, 3), (3, 3)), ((4, 5), (4, 5))], (6, 7), (6, 7)),  # the input's own
        ([((3, 3), (1, 2)), ((4, 5), (1, 2))], (6, 7), (1, 2)),  # one size for all
        ([((2, 2), (4, 6)), ((3, 1), (6, 3))], (4, 5), (8, 15)),  # twice the rows, three times the columns
        ([((4, 6), (2, 3)), ((2, 2), (1, 1))], (8, 4), (4, 2)),  # half
        ([((4, 6), (2, 3)), ((2, 2), (1, 1))], (5, 4), (1, 1)),  # half is not whole: the last one's
        ([((4, 6), (2, 3)), ((2, 2), (1, 3))], (8, 4), (1, 3)),  # no rule: the last one's
    ],
)
def test_how_large_an_answer_is(sizes: list, test: tuple[int, int], expected: tuple[int, int]) -> None:
    assert output_size(pairs_of_sizes(*sizes), test) == expected


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=2, max_size=5), st.integers(1, 4))
def test_ratios_are_found_whatever_the_sizes(inputs: list[tuple[int, int]], factor: int) -> None:
    *shown, test = inputs
    sizes = [(before, (factor * before[0], before[1])) for before in shown]
    fixed = len({after for _, after in sizes}) == 1 and factor > 1
    expected = sizes[0][1] if fixed else (factor * test[0], test[1])
    assert output_size(pairs_of_sizes(*sizes), test) == expected


# Solving files


def solved_by(model: torch.nn.Module, source: Path, destination: Path, **options: Any) -> dict[Path, str]:
    with torch.no_grad():
        return dict(Arc().apply(model, {"path": "x", **options}, source, destination))


def test_apply_keeps_each_file_and_puts_in_the_models_answers(tmp_path: Path, model: torch.nn.Module) -> None:
    contents = {"a": {**puzzle(number=1, tests=2), "origin": "mine"}, "b": puzzle(side=4, number=2, shown=5)}
    del contents["b"]["test"][0]["output"]
    source = folder_of(tmp_path / "in", contents)
    words = solved_by(model, source, tmp_path / "out")
    assert sorted(path.name for path in words) == ["a.json", "b.json"]
    assert "2 answers, 0 of 2 solved" in words[tmp_path / "out" / "a.json"]
    assert "copying the input: " in words[tmp_path / "out" / "a.json"]
    assert words[tmp_path / "out" / "b.json"] == "1 answer"
    for name, content in contents.items():
        written = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert {**written, "test": None} == {**content, "test": None}
        for before, after in zip(content["test"], written["test"], strict=True):
            assert after["input"] == before["input"]
            assert np.shape(after["output"]) == np.shape(before["input"])
            assert np.isin(after["output"], range(10)).all()


def test_answers_are_those_of_the_net_on_the_first_pairs(tmp_path: Path, model: torch.nn.Module) -> None:
    content = puzzle(side=4, number=3, shown=4)
    solved_by(model, folder_of(tmp_path, {"a": content}) / "a.json", tmp_path / "b.json", size=6, pairs=2)
    canvas = torch.full((5, 6, 6), PAD)
    grids = [pair[key] for key in ("input", "output") for pair in content["train"][:2]]
    for i, entry in enumerate([*grids, content["test"][0]["input"]]):
        canvas[i, :4, :4] = torch.tensor(entry)
    with torch.no_grad():
        logits = model({"context_in": canvas[None, :2], "context_out": canvas[None, 2:4], "test": canvas[4:]})
    expected = logits[0, :4, :4, :10].argmax(dim=-1).tolist()
    assert json.loads((tmp_path / "b.json").read_text())["test"][0]["output"] == expected


@pytest.mark.parametrize("larger", [puzzle(side=11), {**GOOD, "test": [{"input": [[0] * 11], "output": ROWS}]}])
def test_grids_larger_than_the_canvas_stop_apply_before_anything_is_written(
    tmp_path: Path, model: torch.nn.Module, larger: dict
) -> None:
    source = folder_of(tmp_path / "in", {"a": puzzle(), "large": larger})
    with pytest.raises(UsageError, match=r"large\.json: .*10 x 10 cells.*larger grid \(got '.*11'\)"):
        solved_by(model, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_answers_larger_than_the_canvas_stop_apply_too(tmp_path: Path, model: torch.nn.Module) -> None:
    shown = [{"input": [[1] * side], "output": [[1] * 2 * side]} for side in (1, 2)]
    source = folder_of(tmp_path, {"a": {"train": shown, "test": [{"input": [[2, 2, 2]]}]}})
    with pytest.raises(UsageError, match=r"a\.json: .*larger answer \(got '1 x 6'\)"):
        solved_by(model, source / "a.json", tmp_path / "out", size=5)
    assert not (tmp_path / "out").exists()


def test_apply_never_writes_over_what_it_reads(tmp_path: Path, model: torch.nn.Module) -> None:
    source = folder_of(tmp_path, {"a": puzzle()})
    before = (source / "a.json").read_bytes()
    with pytest.raises(UsageError, match=r"a\.json: would overwrite a file that is read"):
        solved_by(model, source / "a.json", source)
    assert (source / "a.json").read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="a file, where a folder is needed"):
        solved_by(model, source / "a.json", tmp_path / "file")


def test_apply_reads_files_as_strictly_as_training_does(tmp_path: Path, model: torch.nn.Module) -> None:
    (tmp_path / "a.json").write_text('{"train": [], "test": []}')
    with pytest.raises(UsageError, match=r"a\.json: train: must be a list of at least one pair"):
        solved_by(model, tmp_path / "a.json", tmp_path / "out")
    with pytest.raises(UsageError, match=r"b\.json: cannot be read: No such file"):
        solved_by(model, tmp_path / "b.json", tmp_path / "out")


@pytest.mark.slow
def test_train_on_a_folder_then_apply_from_the_command_line(own_folder: Path, tuner) -> None:
    folder_of(Path("puzzles"), {f"p{i}": puzzle(number=i) for i in range(10)})
    settings = [f"--set={entry}" for entry in ("data.path=puzzles", "data.size=5", "data.puzzles=64", "epochs=2")]
    outcome = tuner("train", "arc", *settings, "--out", "model")
    assert outcome.code == 0, outcome.err
    outcome = tuner("apply", "model", "puzzles", "answers")
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) == 10
    answer = json.loads(Path("answers/p3.json").read_text())
    assert answer["train"] == puzzle(number=3)["train"]
    assert np.shape(answer["test"][0]["output"]) == (3, 3)


# Pictures


def test_a_preview_shows_input_target_and_prediction(tmp_path: Path, model: torch.nn.Module) -> None:
    data = Arc().data({"puzzles": 3})
    with torch.no_grad():
        picture = Arc().preview(model, data)
    assert picture is not None
    assert picture.size == (3 * 132 + 12, 6 * 132 + 16)
    assert isinstance(data.validation, Samples)
    batch = data.validation.rows(torch.arange(6))
    with torch.no_grad():
        answers = model(batch.inputs)[..., :10].argmax(dim=-1)
    seen: dict[int, set] = {}
    for column, grids in enumerate((batch.inputs["test"], batch.targets["grid"], answers)):
        for (puzzle_number, row, cell), color in np.ndenumerate(grids.numpy()):
            place = (12 + 132 * column + 20 * cell + 10, 16 + 132 * puzzle_number + 20 * row + 10)
            seen.setdefault(int(color), set()).add(picture.getpixel(place))
    assert all(len(pixels) == 1 for pixels in seen.values())
    assert len(set.union(*seen.values())) == len(seen) == 10


def test_a_preview_of_few_small_puzzles(tmp_path: Path, model: torch.nn.Module) -> None:
    data: Data = Arc().data({"path": str(folder_of(tmp_path, {"a": puzzle(), "b": puzzle(number=1)})), "size": 5})
    with torch.no_grad():
        picture = Arc().preview(model, data)
    assert picture is not None
    white = (255, 255, 255)
    for column in range(3):
        left = 12 + 132 * column
        assert picture.getpixel((left + 12, 16 + 12)) != white
        assert picture.getpixel((left + 4 * 24 + 12, 16 + 12)) == white
