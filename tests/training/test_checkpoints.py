"""Checkpoints: what comes back is what was saved, and damage is always seen."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from resuming import same_bits
from torch import nn

from tuner.files import write_atomically
from tuner.training import checkpoints
from tuner.training.checkpoints import CheckpointError, UnstorableError, load_checkpoint, save_checkpoint, storable
from tuner.training.records import packed, unpacked
from tuner.training.run import EpochRecord

STATE: dict[str, Any] = {
    "plain": [None, True, False, 0, -(2**70), 0.1, -0.0, math.inf, -math.inf, math.nan, "", "é\ud800 \x00"],
    "tuple": (1, (2.5, [3]), ()),
    "keys": {1: "int", "1": "str", -3: {}, "tensor": {"list": [1]}, None: 0, 0.5: 1},
    "transposed": torch.arange(12.0).reshape(3, 4).t(),
    "every other": torch.arange(12)[::2],
    "scalar": torch.tensor(3.0),
    "empty": torch.empty(0, 3),
    "bool": torch.tensor([True, False]),
    "int64": torch.tensor([2**62 + 1, -1]),
    "bfloat16": torch.tensor([[1.0, math.nan, -0.0]], dtype=torch.bfloat16),
    "float8": torch.tensor([0.5, 2.0]).to(torch.float8_e4m3fn),
    "conjugated": torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex128).conj(),
    "expanded": torch.ones(1).expand(4),
    "strange strides": [torch.ones(1).as_strided((1,), (0,)), torch.from_numpy(np.zeros((0, 2), dtype=np.float32))],
    "array": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2],
    "array of none": np.zeros((0, 4), dtype=np.int16),
    "array of no dimension": np.array(2.5),
    "texts": np.array(["a", "bcd"]),
    "numpy numbers": [np.float64(0.1), np.int32(7), np.bool_(True)],
}


SMALL = {3: {"weight": torch.arange(12.0), "rate": 0.1, "kept": None}, 4: {"steps": np.arange(3)}}
"""Few enough bytes to harm each of them in turn."""


def saved(folder: Path, states: dict[int, dict[str, Any]] | None = None) -> Path:
    path = folder / "00000001.safetensors"
    save_checkpoint(path, {3: STATE, 12: {}} if states is None else states)
    return path


def test_states_come_back_in_equal_types_and_bits(tmp_path: Path) -> None:
    back = load_checkpoint(saved(tmp_path))
    assert list(back) == [3, 12]
    assert same_bits(back, {3: STATE, 12: {}})


ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ARRAYS = arrays.arrays(
    st.sampled_from([np.float32, np.int64, np.bool_, np.uint8, np.complex64]),
    arrays.array_shapes(min_dims=0, min_side=0),
)
LEAVES = ATOMS | ARRAYS | ARRAYS.map(torch.from_numpy)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.integers() | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(state=st.dictionaries(st.text(), VALUES, max_size=4))
def test_any_state_comes_back(state: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert same_bits(load_checkpoint(saved(tmp_path_factory.mktemp("any"), {0: state})), {0: state})


def test_records_come_back_with_notes_and_without_what_was_not_recorded(tmp_path: Path) -> None:
    records = [
        EpochRecord(1, 4, {"train_loss": 0.1, "val_loss": math.inf}, 0.05, 1.5, 0.25),
        EpochRecord(2, 8, {"train_loss": math.nan, "val_loss": -0.0, "val_seen": 1.0}, 0.025, 0.0, 0.5, ("a", "b")),
    ]
    back = unpacked(load_checkpoint(saved(tmp_path, {0: packed(records)}))[0])
    assert same_bits([vars(record) for record in back], [vars(record) for record in records])
    assert unpacked(packed([])) == []


def test_tensors_that_share_memory_come_back_apart(tmp_path: Path) -> None:
    weight = torch.arange(6.0)
    back = load_checkpoint(saved(tmp_path, {0: {"tied": [weight, weight], "part": weight[2:4]}}))[0]
    assert same_bits(back, {"tied": [weight, weight], "part": weight[2:4]})
    back["tied"][0].zero_()
    assert torch.equal(back["tied"][1], weight)


def test_a_parameter_comes_back_as_its_tensor(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(2))
    assert same_bits(load_checkpoint(saved(tmp_path, {0: {"w": parameter}})), {0: {"w": torch.ones(2)}})


def test_what_is_loaded_is_independent_of_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    back = load_checkpoint(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert same_bits(back[3], STATE)


def test_truncation_at_every_byte_is_seen(tmp_path: Path) -> None:
    path = saved(tmp_path, SMALL)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


def test_a_flipped_bit_is_seen_in_every_byte(tmp_path: Path) -> None:
    path = saved(tmp_path, SMALL)
    content = bytearray(path.read_bytes())
    for place in range(len(content)):
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
        content[place] ^= 1 << place % 8


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 500, b"\xff" * 500, b"SQLite format 3\0" * 9, np.random.default_rng(0).bytes(4096)],
    ids=["empty", "zeros", "ones", "database", "noise"],
)
def test_garbage_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="garbage"):
        load_checkpoint(path)


def test_weights_and_other_formats_are_no_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    save_file({"0": torch.ones(2)}, tmp_path / "weights", metadata={"task": "digits"})
    torch.save({"a": 1}, tmp_path / "pickle")
    for name in ("weights", "pickle", "missing", "."):
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / name)
    path = saved(tmp_path)
    monkeypatch.setattr(checkpoints, "FORMAT", "tuner checkpoint 2")
    with pytest.raises(CheckpointError, match="no checkpoint that this version reads"):
        load_checkpoint(path)


class Strange:
    pass


@pytest.mark.parametrize(
    "value", [len, Strange(), object(), {1}, b"bytes", torch.ones(2).to_sparse(), np.array([None]), {(1, 2): 3}, 1j]
)
def test_what_cannot_be_stored_is_named_and_nothing_is_written(tmp_path: Path, value: Any) -> None:
    state = {"fine": 1, "model": [0, {"_extra_state": value}]}
    place = "model.1._extra_state" + (".(1, 2)" if isinstance(value, dict) else "")
    assert storable(state) == place
    assert storable(STATE) is None
    with pytest.raises(UnstorableError) as error:
        saved(tmp_path, {3: {"fine": 1}, 7: state})
    assert error.value.path == f"7.{place}"
    assert f"7.{place}" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_nothing_loaded_is_executed(tmp_path: Path) -> None:
    """The structure is JSON of a few known forms; a form that no writer has written is refused."""
    path = saved(tmp_path, {0: {"a": (1,)}})
    header_length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + header_length])
    assert json.loads(header["__metadata__"]["structure"]) == [[0, {"dict": [["a", {"tuple": [1]}]]}]]


def test_a_failed_write_leaves_the_file_before_it_and_no_other(tmp_path: Path) -> None:
    """The disk is full, as far as this process can tell; in a process of its own, which has the limit for good."""
    path = saved(tmp_path, {0: {"a": 1}})
    code = f"""
import resource, torch
from pathlib import Path
from tuner.training.checkpoints import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(Path({str(path)!r}), {{0: {{"a": torch.ones(100_000)}}}})
except OSError as error:
    print(error.errno, error.filename)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["27", str(path)], done.stderr
    assert os.listdir(tmp_path) == [path.name]
    assert load_checkpoint(path) == {0: {"a": 1}}


def test_a_file_takes_its_name_after_it_is_on_disk_and_the_name_is_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def sync(handle: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        fsync(handle)

    def rename(*paths: Any) -> None:
        done.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    saved(tmp_path)
    write_atomically(tmp_path / "text", b"words")
    assert done == ["file", "rename", "folder"] * 2


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path)
    assert list(tmp_path.iterdir()) == []
