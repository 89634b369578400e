"""How long `tuner --help` takes beside a bare typer program: `python benchmarks/startup.py [pairs]`.

The two run in turn, so that a busy machine slows both; the median of the paired ratios counts (at most 2).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

BARE = """
import sys, typer
sys.argv = ["bare", "--help"]
app = typer.Typer(add_completion=False)

@app.command()
def one(x: int = 1):
    "One."

@app.command()
def two(y: str = ""):
    "Two."

app()
"""

OURS = """
import sys
sys.argv = ["tuner", "--help"]
from tuner.cli.main import main
main()
"""


def seconds(code: str) -> float:
    """Wall time of a new interpreter that runs `code`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the medians and the median ratio of the pairs."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    seconds(BARE), seconds(OURS)
    timed = [(seconds(OURS), seconds(BARE)) for _ in range(pairs)]
    ours, bare = (statistics.median(column) for column in zip(*timed, strict=True))
    ratio = statistics.median(one / other for one, other in timed)
    print(f"tuner --help {ours:.3f} s, a bare typer program {bare:.3f} s: ratio {ratio:.2f} (median of {pairs} pairs)")


if __name__ == "__main__":
    main()
