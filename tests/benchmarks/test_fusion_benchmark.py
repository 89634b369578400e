"""The benchmarks of fused training run, and say what a reader of their tables relies on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, BENCHMARKS / script, *arguments], capture_output=True, text=True)


@pytest.mark.slow
def test_fusion_compares_three_ways(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    options = {"models": "digits-mlp", "epochs": 1, "trials": 3, "threads": 1, "least": 0, "out": out}
    done = run("fusion.py", *[word for name, value in options.items() for word in (f"--{name}", str(value))])
    assert done.returncode == 0, done.stderr
    assert torch.__version__ in done.stdout and "1 threads" in done.stdout
    found = json.loads(out.read_text())["models"]["digits-mlp"]
    # 64-64-64-10: two operations a weight in the forward pass, as many for the weights' gradients, and for the inputs'
    # in all layers but the first; 1,077 digits
    weights = [64 * 64, 64 * 64, 64 * 10]
    assert found["flops"] == pytest.approx(1077 * 2 * (3 * sum(weights) - weights[0]))
    assert found["trials"] == 3
    assert found["storing"] > 0 and found["gemm"] > 0
    for way, spent in found["spent"].items():
        assert len(spent) == 1
        assert all(spent[0][part] > 0 for part in ("batches", "steps", "validation")), way
    training = {way: spent[0]["batches"] + spent[0]["steps"] for way, spent in found["spent"].items()}
    fused = training.pop("(c) fused")
    assert found["ratios"] == pytest.approx({way: seconds / fused for way, seconds in training.items()})


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it does without a GPU")
def test_gpu_says_that_it_needs_one() -> None:
    done = run("gpu.py")
    assert done.returncode == 1
    assert done.stdout == "" and done.stderr.startswith("This needs an NVIDIA GPU") and "Traceback" not in done.stderr


@pytest.mark.slow
def test_processes_at_once_add_up() -> None:
    """What `gpu.py` compares with, on the CPU."""
    code = "from several import rate_of_processes; print(rate_of_processes('digits-mlp', 2, 'cpu', 0.0))"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0
