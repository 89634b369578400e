"""`tuner live` as a command, and what becomes of its sessions: `tuner train --timeline`, `tuner full --around`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TUNER = str(Path(sys.executable).with_name("tuner"))


@contextmanager
def live(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`tuner live` in a process of its own, and the page's address."""
    with subprocess.Popen(
        [TUNER, "live", *arguments, "--port", "0", "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            yield process, re.sub(r".*?(http\S+)\s*", r"\1", process.stdout.readline())
        finally:
            process.kill()


def status_of(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def pages() -> list[int]:
    """The processes that serve a page."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"tuner.live.page.process" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def page_of(process: subprocess.Popen[str]) -> int:
    return next(pid for pid in pages() if f"\nPPid:\t{process.pid}\n" in Path(f"/proc/{pid}/status").read_text())


def gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def within_a_minute(fact: Callable[[], bool]) -> None:
    for _ in range(600):
        if fact():
            return
        time.sleep(0.1)
    raise AssertionError("not within a minute")


@pytest.mark.slow
def test_ctrl_c_ends_it_and_the_record_trains_to_the_same_weights(own_folder, tuner):
    with live("tiny.py", "--set", "batch_size=8") as (process, url):
        assert status_of(url) == 200
        assert status_of(url, Host="evil.example") == 403
        assert status_of(url, Origin="http://evil.example") == 403
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    session = Path("studies/tiny-live-001")
    assert f"saved in {session}" in out
    assert (session / "weights.safetensors").is_file()
    again = tuner("train", "tiny.py", "--timeline", str(session), "--device", "cpu")
    assert again.code == 0, again.err
    assert (
        Path("studies/tiny-train-001/weights.safetensors").read_bytes()
        == (session / "weights.safetensors").read_bytes()
    )

    around = tuner("quick", "tiny.py", "--around", str(session), "--trials", "3", "--set", "epochs=2")
    assert around.code == 0, around.err
    assert Path("studies/tiny-live-001-quick.db").is_file()
    assert "learning_rate: {low: 0.0005, high: 0.008, log: true}" in (session / "quick.yaml").read_text()

    about = json.loads((session / "session.json").read_text())
    (session / "session.json").write_text(json.dumps(about | {"task_hash": "another", "device": "cuda"}))
    changed = tuner("train", "--timeline", str(session), "--device", "cpu")
    assert "the task's source file has changed" in changed.out + changed.err
    assert "device cuda -> cpu" in changed.out + changed.err


@pytest.mark.slow
def test_page_and_training_outlive_one_another_as_they_should(own_folder):
    with live("tiny.py") as (process, _):
        page = page_of(process)
        os.kill(page, signal.SIGKILL)
        time.sleep(1)
        assert process.poll() is None  # the training goes on
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert "saved in" in out
    with live("tiny.py") as (process, _):
        page = page_of(process)
        process.kill()
        within_a_minute(lambda: gone(page))
    assert "stop" not in Path("studies/tiny-live-002/timeline.csv").read_text()


@pytest.mark.slow
def test_another_address_needs_the_token_that_is_printed(own_folder):
    with live("tiny.py", "--host", "0.0.0.0") as (_, url):
        address, _, token = url.partition("?token=")
        here = re.sub(r"//.*:", "//127.0.0.1:", address)
        assert len(token) > 20
        assert status_of(here) == 403
        assert status_of(f"{here}?token=wrong") == 403
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert opener.open(f"{here}?token={token}", timeout=60).status == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("live", "digit"), "Did you mean 'digits'?"),
        (("live", "--from", "nothing"), "nothing"),
        (("live", "tiny.py", "--set", "learning_rat=1"), "Did you mean 'learning_rate'?"),
        (("train", "tiny.py", "--timeline", "nothing"), "there is no such session"),
        (("train", "tiny.py", "--timeline", "."), "it has no timeline.csv"),
        (("train", "tiny.py", "--timeline", "nothing.csv"), "there is no"),
        (("quick", "tiny.py", "--around", "nothing"), "there is no such session"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(own_folder, tuner, arguments, words):
    before = sorted(own_folder.rglob("*"))
    found = tuner(*arguments)
    assert (found.code, words in found.err) == (2, True), found
    assert [
        path for path in sorted(own_folder.rglob("*")) if path not in before and "__pycache__" not in str(path)
    ] == []


@pytest.mark.parametrize(
    ("csv", "words"),
    [
        ("STEP,ACTION,learning_rate:linear:step\n0,,0.1\n1.5,,0.2\n", "whole"),
        ("STEP,ACTION,learning_rate\n0,,0.1\n", "change at once"),
        ("# steps: 10\nSTEP,ACTION,learning_rate:linear:step\n0,,0.1\n", "never stretched"),
        ("STEP,ACTION,learning_rate:linear:step\n0,,abc\n", "must be a number"),
        ("STEP,ACTION,learning_rate:linear:step\n0,optimizer=Adan;stop,0.1\n2,stop,\n", "Did you mean 'Adam'?"),
        ("STEP,ACTION,learning_rate:linear:step\n0,restore=7,0.1\n9,stop,\n", "no checkpoint of this step"),
    ],
)
def test_a_record_that_no_session_wrote(own_folder, tuner, csv, words):
    session = own_folder / "odd"
    session.mkdir()
    (session / "timeline.csv").write_text(csv)
    (session / "recipe.yaml").write_text("task: tiny.py\nmetric: val_loss\ndirection: minimize\nrecipe: {epochs: 1}\n")
    (session / "tiny.py").write_bytes((own_folder / "tiny.py").read_bytes())
    found = tuner("train", "--timeline", "odd", "--out", "left")
    assert found.code == 2, found
    assert words in found.err
    assert not (own_folder / "left").exists()
