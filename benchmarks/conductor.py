"""The conductor's own share of a search's wall time: all but the trials' epochs (aim: at most 5 %).

    python benchmarks/conductor.py [TASK] [MODE]

Runs the search in a temporary folder (default: `quick digits`, about a minute) and compares the wall time of the
conductor with the sum of its trials' epochs: asking, checkpoints, transactions, files and building models are its own.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import optuna

from tuner.search import SearchRequest, search
from tuner.storage.studies import Studies


def main() -> None:
    """Print wall time, the epochs' time, and the share that is left."""
    task = sys.argv[1] if len(sys.argv) > 1 else "digits"
    mode = sys.argv[2] if len(sys.argv) > 2 else "quick"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        ended = search(SearchRequest(task, mode, studies=Path(folder)), lambda event: None)
        opened = Studies(Path(folder)).load(ended.study)
        rows = opened.epochs.read()
        opened.storage.engine.dispose()
    epochs = sum(row["seconds"] for row in rows)
    own = ended.seconds - epochs
    print(
        f"{ended.study}: {ended.seconds:.1f} s, of which {len(rows)} epochs took {epochs:.1f} s; the conductor's own: "
        f"{own:.2f} s, {100 * own / ended.seconds:.1f} %, {1000 * own / len(rows):.1f} ms an epoch"
    )


if __name__ == "__main__":
    main()
