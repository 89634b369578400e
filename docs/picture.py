"""Draws a real `tuner quick digits` in a terminal of 128 columns as an SVG: `python docs/picture.py docs/quick.svg`."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 128


def run_in_terminal(command: list[str], folder: str) -> str:
    """What the command prints on a terminal, colours included; redrawn lines as they were last."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(WIDTH), "LINES": "50", "TERM": "xterm-256color"}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=follower, stderr=follower, close_fds=True):
        os.close(follower)
        chunks = []
        while True:
            try:
                chunk = os.read(leader, 65536)
            except OSError:
                break
            if not chunk:
                break
            chunks.append(chunk)
    return b"".join(chunks).decode()


def final_lines(output: str) -> list[str]:
    """The lines that stay: those of the live bar are erased before the next is drawn."""
    text = re.sub(r"\x1b\[\?25[lh]", "", output).replace("\r\n", "\n")
    lines: list[str] = []
    for line in text.split("\n"):
        kept = line.split("\x1b[2K")[-1].split("\r")[-1]
        lines.append(kept)
    return [line for line in lines if not re.search(r"/min|━", line)]


def main() -> None:
    """Run the search in an empty folder and write the picture."""
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        tuner = str(Path(sys.executable).parent / "tuner")
        output = run_in_terminal([tuner, "quick", "digits"], folder)
        output += run_in_terminal([tuner, "analyze", "digits-quick", "--top", "3"], folder)
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text("$ tuner quick digits && tuner analyze digits-quick --top 3", style="bold"))
    for line in final_lines(output):
        console.print(Text.from_ansi(line), soft_wrap=True)
    console.save_svg(str(target), title="tuner quick digits")


if __name__ == "__main__":
    main()
