"""Killing a child at its n-th system call, by a library in C that is loaded before all others."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest


def build(folder: Path) -> Path:
    """Compile the library; skips the test where there is no compiler for it."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is needed to kill at system calls")
    library = folder / "system_calls.so"
    source = Path(__file__).with_name("system_calls.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def arm(folder: Path, kill_at: int) -> None:
    """Die at this process's `kill_at`-th (0: at no) call that changes a file below `folder`."""
    ctypes.CDLL(None).crash_arm(str(folder).encode(), ctypes.c_long(kill_at))


def passed() -> int:
    """How many such calls this process has made."""
    count = ctypes.CDLL(None).crash_passed
    count.restype = ctypes.c_long
    return int(count())
