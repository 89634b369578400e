"""Takes a picture of the page about a real `tuner quick digits`: `python docs/screenshot.py docs/report.png`.

Needs chromium. `--study STUDY --studies DIR` takes a study that is there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 1000, 1500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--study", default="digits-quick")
    parser.add_argument("--studies", type=Path)
    arguments = parser.parse_args()
    tuner = str(Path(sys.executable).with_name("tuner"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.studies or Path(temporary)
        if arguments.studies is None:
            subprocess.run([tuner, "quick", "digits", "--studies", str(folder)], check=True)
        page, taken = Path(temporary) / "report.html", Path(temporary) / "report.png"
        about = [arguments.study, "--studies", str(folder), "--html", str(page)]
        subprocess.run([tuner, "analyze", *about], check=True)
        browser = ["chromium", "--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
        shot = ["--virtual-time-budget=20000", f"--screenshot={taken}", page.as_uri()]
        subprocess.run([*browser, *shot], check=True, capture_output=True)
        few_colours = Image.open(taken).convert("RGB").quantize(128)
        few_colours.save(arguments.picture, optimize=True)
    print(f"{arguments.picture}: {arguments.picture.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
