"""Fused training beside the loop that a tutorial teaches, the same without DataLoader, and several processes at once.

    python benchmarks/gpu.py [--models colors digits-mlp ...] [--epochs 10] [--processes 4] [--precision bf16]

On one NVIDIA GPU, with torch 2.11 or newer; what `fusion.py` says of the CPU holds here. The processes each train one
trial after another without DataLoader, all on the one GPU at once; their rates are added up.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from models import CASES, Case, Job
from rich.console import Console
from several import rate_of_processes
from side_by_side import Result, machine, measured, show, write


def compared(case: Case, trials: int, arguments: argparse.Namespace, device: torch.device) -> Result:
    """All that is measured of one model."""
    job = Job.of(case, arguments.epochs, device, arguments.precision)
    result = measured(job, trials, arguments.epochs, arguments.least, torch.get_num_threads())
    count = arguments.processes
    if count:
        del job
        torch.cuda.empty_cache()
        result.more[f"{count} processes"] = rate_of_processes(
            case.name, count, str(device), arguments.least, arguments.precision
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--trials", type=int, help="train so many fused, whatever the model")
    parser.add_argument("--processes", type=int, default=4, help="so many train at once for comparison; 0: none")
    parser.add_argument("--least", type=float, default=1.0, help="seconds that the others train in turn")
    parser.add_argument("--precision", choices=["float32", "tf32", "bf16"], default="float32", help="of all that train")
    parser.add_argument("--out", type=Path, help="write everything measured to this file, as JSON")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("This needs an NVIDIA GPU, and torch sees none; `python benchmarks/fusion.py` measures on the CPU.")
    device, results = torch.device("cuda", torch.cuda.current_device()), []
    progress = Console(stderr=True)
    for name in arguments.models:
        case = CASES[name]
        trials = arguments.trials or case.trials["cuda"]
        progress.print(f"{name}: {trials} trials, {arguments.epochs} epochs ...")
        results.append(compared(case, trials, arguments, device))
    on = machine(device, torch.get_num_threads()) | {"precision": arguments.precision}
    show(results, on)
    if arguments.out:
        write(arguments.out, results, on)


if __name__ == "__main__":
    main()
